--- Two runs at once in one folder: who comes second waits, and says so. With a cmake and an apt-get that do nothing but show who runs.

local root = os.getenv "CUEBALL_ROOT" or "."

-- The commands that are called meet in FIFOs, so that the order of what they do does not depend on how fast anything is.
local PREPARE = [[
unset LD_PRELOAD CUEBALL_PRELOAD CUEBALL_CMAKE_ARGS
scratch=$(mktemp -d) root='ROOT'
trap 'rm -rf "$scratch"' EXIT
export scratch root
mkdir "$scratch/bin"
export PATH="$scratch/bin:$PATH"
mkfifo "$scratch/begun" "$scratch/go" "$scratch/said"

fake() { # name: a command that does what is in stdin
  { echo '#!/bin/sh'; cat; } >"$scratch/bin/$1"
  chmod 755 "$scratch/bin/$1"
}

# The first to come says that it has begun and waits to be let go; nobody may come before it is done.
fake alone <<'END'
mkdir "$scratch/busy" || { echo "two at once"; exit 9; }
if mkdir "$scratch/first" 2>/dev/null; then
  echo >"$scratch/begun"
  read -r _ <"$scratch/go"
fi
rmdir "$scratch/busy"
END

two_at_once() { # command…
  "$@" >"$scratch/1" 2>&1 &
  first=$!
  timeout 60 cat "$scratch/begun" >"$scratch/null"
  "$@" >"$scratch/2" 2>"$scratch/said" &
  second=$!
  timeout 60 head -n 1 "$scratch/said" | sed "s#$scratch#FOLDER#"
  timeout 60 sh -c 'echo >"$scratch/go"'
  wait $first && echo "the first: well" || echo "the first failed"
  wait $second && echo "the second: well" || echo "the second failed"
  cat "$scratch/1" "$scratch/2"
}
]]

local function run(script)
  local pipe = assert(io.popen(PREPARE:gsub("ROOT", (root:gsub("%%", "%%%%"))) .. script .. "\n"))
  local output = pipe:read "*a"
  pipe:close()
  return output
end

describe("two runs at once", function()
  it("build one after the other", function()
    assert.equal([[
cueball: another build is running in FOLDER/build; waiting for its end
the first: well
the second: well
]], run [[
      fake cmake <<'END'
exec alone
END
      export CUEBALL_BUILD="$scratch/build"
      two_at_once sh -c '. "$root/.ci/build"; cueball_build']])
  end)

  it("wait for the build that another has begun before they use what is there", function()
    assert.equal([[
cueball: another build is running in FOLDER/build; waiting for its end
the first: well
the second: well
built
]], run [[
      fake cmake <<'END'
touch "$scratch/build/libcueball.so"
exec alone
END
      fake luajit <<'END'
[ -d "$scratch/busy" ] || echo built
END
      export CUEBALL_BUILD="$scratch/build"
      two_at_once sh -c 'if mkdir "$scratch/builder" 2>/dev/null; then . "$root/.ci/build"; cueball_build
        else exec "$root/examples/run" examples/readme.lua; fi']])
  end)

  it("install one after the other, and what is there by then not again", function()
    assert.equal([[
deps run: another is installing; waiting for its end
the first: well
the second: well
deps run: installing gcc
deps run: installed gcc
deps run: everything is installed
]], run [[
      fake dpkg-query <<'END'
for package; do :; done
[ "$package" = gcc ] && [ ! -e "$scratch/gcc" ] || echo installed
END
      fake id <<'END'
echo 1000
END
      fake sudo <<'END'
case "$*" in *"apt-get install"*gcc*) alone && touch "$scratch/gcc" ;; esac
END
      two_at_once "$root/.ci/deps"]])
  end)
end)
