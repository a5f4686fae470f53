--- Real and fake nameservers on loopback, for specs.
--
--   local servers = require "spec.support.dns_servers"
--   local knot = servers.knot { zones = { ["example."] = "db A 10.0.0.1\n" } }   -- authoritative; text as in a zone file
--   local unbound = servers.unbound { forward_to = knot.server }                  -- a resolver with a cache, in between
--   local dnsmasq = servers.dnsmasq { records = { "--host-record=db.example,127.0.0.2,5" } }      -- sends no SOA
--   local fake = servers.fake(function(query, reply) reply(query) end)            -- in this process, on luv's loop
--
--   one.server                "127.0.0.1:PORT";  one.port
--   one:stop()  one:start()   the process ends; another on the same port (knot, unbound)
--   knot:rewrite(zone, text)  the zone is replaced while it runs; returns when it answers from the new one
--   one:close()               stopped for good, its folder removed;  servers.close_all(): for teardown()
--
-- Options: port = (default: a free one).  A zone without a SOA record is given one (negative TTL 1 s), and $ORIGIN and
-- $TTL 60; with one, its serial must be the word SERIAL.  Whoever starts a server may ask it at once: starting, stopping and
-- rewriting wait until it is so, without running the event loop, so that they may be called in tasks too.
local ffi = require "ffi"
local free_port = require("spec.support.port").free
local shell = require "spec.support.shell"
local uv = require "luv"

ffi.cdef [[
  struct cueball_spec_in { uint16_t family, port; uint8_t address[4], zero[8]; };
  struct cueball_spec_poll { int fd; short events, revents; };
  int cueball_spec_socket(int, int, int) __asm__("socket");
  int cueball_spec_connect(int, const void *, unsigned) __asm__("connect");
  ptrdiff_t cueball_spec_send(int, const void *, size_t, int) __asm__("send");
  ptrdiff_t cueball_spec_recv(int, void *, size_t, int) __asm__("recv");
  int cueball_spec_poll_one(struct cueball_spec_poll *, unsigned long, int) __asm__("poll");
  int cueball_spec_close(int) __asm__("close");
]]

local AF_INET, SOCK_DGRAM, POLLIN = 2, 2, 1
local PATIENCE_S = 60   -- a slow machine under load

local servers = {}

local open = {}   -- every one not closed yet

-- Runs a command, with further words as $1, $2 …; what it wrote.
local function run(command, ...)
  local words = {}
  for index, word in ipairs { ... } do words[index] = shell.quote(word) end
  local pipe = assert(io.popen(("unset LD_PRELOAD; set -- %s; %s"):format(table.concat(words, " "), command)))
  local text = pipe:read "*a"
  pipe:close()
  return (text:gsub("%s+$", ""))
end

-- What is there of a file that may not be there yet, or not any more.
local function read(path)
  local ok, text = pcall(shell.read, path)
  return ok and text or ""
end

-- Bytes ------------------------------------------------------------------

function servers.u16(number)
  return string.char(math.floor(number / 256) % 256, number % 256)
end
local u16 = servers.u16

--- A name as it goes over the wire: "a.example" → "\1a\7example\0".
function servers.wire(name)
  local out = {}
  for label in name:gmatch "[^.]+" do out[#out + 1] = string.char(#label) .. label end
  return table.concat(out) .. "\0"
end

--- A query without EDNS.
function servers.query(name, rr, id)
  return u16(id or 4711) .. "\1\0" .. u16(1) .. u16(0) .. u16(0) .. u16(0) .. servers.wire(name) .. u16(rr) .. u16(1)
end

-- Asks 127.0.0.1:port, blocking. → the response, or nil
local function ask(port, query, wait_ms)
  local C = ffi.C
  local fd = C.cueball_spec_socket(AF_INET, SOCK_DGRAM, 0)
  assert(fd >= 0)
  local to = ffi.new "struct cueball_spec_in"
  to.family, to.port = AF_INET, bit.bor(bit.lshift(bit.band(port, 255), 8), bit.rshift(port, 8))
  to.address[0], to.address[3] = 127, 1
  local poll = ffi.new("struct cueball_spec_poll[1]", { { fd, POLLIN, 0 } })
  local answer
  if C.cueball_spec_connect(fd, to, ffi.sizeof(to)) == 0 and C.cueball_spec_send(fd, query, #query, 0) == #query
    and C.cueball_spec_poll_one(poll, 1, wait_ms) == 1 then
    local room = ffi.new "char[65536]"
    local size = C.cueball_spec_recv(fd, room, 65536, 0)
    if size >= 12 then answer = ffi.string(room, size) end
  end
  C.cueball_spec_close(fd)
  return answer
end

-- Processes --------------------------------------------------------------

local Process = {}
Process.__index = Process

local function is_running(self)
  local state = self.pid and read("/proc/" .. self.pid .. "/stat"):match "^%d+ %b() (%a)"
  return state ~= nil and state ~= "Z"
end

-- Until is_ready(response) of an answer to the query.
local function await(self, query, is_ready)
  local stop = os.time() + PATIENCE_S
  while os.time() <= stop do
    local answer = ask(self.port, query, 200)
    if answer and is_ready(answer) then return end
    if not is_running(self) then break end
    if not answer then run "sleep 0.05" end   -- refused at once: it does not listen yet
  end
  error(("%s does not answer on port %d:\n%s"):format(self.command[1], self.port, read(self.folder .. "/log")), 0)
end

function Process:start()
  if is_running(self) then return self end
  self.pid = run('log=$1; shift; "$@" >>"$log" 2>&1 </dev/null & echo $!', self.folder .. "/log", unpack(self.command))
  await(self, self.probe, function() return true end)
  return self
end

--- Ends the process; the port is then free.
function Process:stop()
  if is_running(self) then
    local text = run([[
      wait_for() {
        for i in $(seq "$2"); do case $(cat "/proc/$1/stat" 2>/dev/null) in ""|*") Z "*) exit ;; esac; sleep 0.05; done
      }
      kill "$1"; wait_for "$1" 100
      kill -9 "$1"; wait_for "$1" 1200
      echo "it does not end"]], self.pid)
    assert(text == "", text)
  end
  self.pid = nil
end

function Process:close()
  self:stop()
  open[self] = nil
  run('rm -rf "$1"', self.folder)
end

local function process(kind, options, command, probe)
  local self = setmetatable({}, { __index = kind })
  self.folder = run "mktemp -d"
  self.port = options.port or free_port()
  self.server = "127.0.0.1:" .. self.port
  self.command, self.probe = command(self), probe
  open[self] = true
  return self
end

-- Knot DNS: authoritative --------------------------------------------------

local Knot = setmetatable({}, { __index = Process })

local function zone_text(zone, text, serial)
  if not text:find "SOA" then
    text = "@ SOA ns hostmaster SERIAL 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n" .. text
  end
  return ("$ORIGIN %s\n$TTL 60\n%s\n"):format(zone, (text:gsub("SERIAL", tostring(serial))))
end

local function zone_path(self, zone)
  return ("%s/%szone"):format(self.folder, zone)
end

local function soa_query(zone)
  return servers.query(zone, 6)
end

function Knot:rewrite(zone, text)
  self.serial = self.serial + 1
  shell.write(zone_path(self, zone), zone_text(zone, text, self.serial))
  if not is_running(self) then return end
  run('kill -HUP "$1"', self.pid)
  local a, b, c, d = math.floor(self.serial / 2 ^ 24), math.floor(self.serial / 2 ^ 16) % 256,
    math.floor(self.serial / 256) % 256, self.serial % 256
  local wanted = string.char(a, b, c, d)
  await(self, soa_query(zone), function(answer) return answer:sub(-20, -17) == wanted end)
end

--- @param options zones: { ["example."] = text }; port
function servers.knot(options)
  local first = next(options.zones)
  local self = process(Knot, options, function(one)
    return { "knotd", "-c", one.folder .. "/knot.conf" }
  end, soa_query(first))
  self.serial = 1
  local text = {
    "server:", "  listen: 127.0.0.1@" .. self.port, "  rundir: " .. self.folder,
    "  udp-workers: 1", "  tcp-workers: 1", "  background-workers: 1",
    "log:", "  - target: stderr", "    any: info",
    "database:", "  storage: " .. self.folder .. "/db",
    "template:", "  - id: default", "    storage: " .. self.folder, "    zonefile-sync: -1", "    journal-content: none",
    "zone:",
  }
  for zone, records in pairs(options.zones) do
    shell.write(zone_path(self, zone), zone_text(zone, records, self.serial))
    text[#text + 1] = ("  - domain: %s\n    file: %s"):format(zone, zone_path(self, zone))
  end
  shell.write(self.folder .. "/knot.conf", table.concat(text, "\n") .. "\n")
  return self:start()
end

-- Unbound: a resolver with a cache ------------------------------------------

--- @param options forward_to: "IP:PORT"; port; is_minimal: answers have nothing that was not asked for
function servers.unbound(options)
  local self = process(Process, options, function(one)
    return { "unbound", "-d", "-c", one.folder .. "/unbound.conf" }
  end, servers.query("localhost", 1))
  local address, port = options.forward_to:match "^(.*):(%d+)$"
  shell.write(self.folder .. "/unbound.conf", ([[
server:
  interface: 127.0.0.1
  port: %d
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  module-config: "iterator"
  use-syslog: no
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: ""
  num-threads: 1
  infra-host-ttl: 1
  minimal-responses: %s
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: %s@%s
]]):format(self.port, self.folder, options.is_minimal and "yes" or "no", address, port))
  return self:start()
end

-- dnsmasq: a forwarder that sends no SOA for what it knows itself ---------------

local Dnsmasq = setmetatable({}, { __index = Process })

-- What it knows itself is in its command line.
local function dnsmasq_command(self, records)
  local command = {
    "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--user=", "--bind-interfaces",
    "--listen-address=127.0.0.1", "--port=" .. self.port, "--local=/example/", "--host-record=probe.example,127.0.0.1",
  }
  for _, record in ipairs(records) do command[#command + 1] = record end
  return command
end

--- It ends, and another takes its place that knows other things.
function Dnsmasq:rewrite(records)
  self:stop()
  self.command = dnsmasq_command(self, records)
  return self:start()
end

--- @param options records: { "--host-record=db.example,127.0.0.2,5" (the TTL), "--srv-host=_pg._tcp.example,db.example,5432" }; port
function servers.dnsmasq(options)
  local self = process(Dnsmasq, options, function(one) return dnsmasq_command(one, options.records) end, servers.query("probe.example", 1))
  return self:start()
end

-- Fakes ------------------------------------------------------------------

local Fake = {}
Fake.__index = Fake

function Fake:close()
  open[self] = nil
  for _, handle in ipairs(self.handles) do
    if not handle:is_closing() then handle:close() end
  end
end

local function fake_tcp(self, fn)
  local tcp = uv.new_tcp()
  assert(tcp:bind("127.0.0.1", self.port))
  assert(tcp:listen(16, function()
    local client, got = uv.new_tcp(), ""
    tcp:accept(client)
    self.handles[#self.handles + 1] = client
    client:read_start(function(_, data)
      if client:is_closing() then return end
      if not data then return client:close() end
      got = got .. data
      local size = #got >= 2 and got:byte(1) * 256 + got:byte(2) or 1 / 0
      if #got < size + 2 then return end
      fn(got:sub(3, size + 2), function(bytes) client:write(u16(#bytes) .. bytes) end, client)
    end)
  end))
  self.handles[#self.handles + 1] = tcp
end

--- Answers in this process.
-- @param fn called with each datagram's bytes, reply(bytes) and reply_from_elsewhere(bytes), which uses another port
-- @param on_tcp the same for what comes over TCP: bytes, reply, the connection; nil: TCP is refused
function servers.fake(fn, on_tcp)
  local port = free_port()
  local self = setmetatable({ port = port, server = "127.0.0.1:" .. port, handles = {}, queries = {} }, Fake)
  local udp, elsewhere = uv.new_udp(), uv.new_udp()
  assert(udp:bind("127.0.0.1", port))
  assert(elsewhere:bind("127.0.0.1", 0))
  self.handles = { udp, elsewhere }
  udp:recv_start(function(_, bytes, peer)
    if not bytes or not peer then return end
    self.queries[#self.queries + 1] = bytes
    fn(bytes, function(answer) udp:send(answer, peer.ip, peer.port, function() end) end,
      function(answer) elsewhere:send(answer, peer.ip, peer.port, function() end) end)
  end)
  if on_tcp then fake_tcp(self, on_tcp) end
  open[self] = true
  return self
end

--- The fakes only; servers that are processes stay.
function servers.close_fakes()
  for one in pairs(open) do
    if getmetatable(one) == Fake then one:close() end
  end
end

function servers.close_all()
  local list = {}
  for one in pairs(open) do list[#list + 1] = one end
  for _, one in ipairs(list) do one:close() end
end

return servers
