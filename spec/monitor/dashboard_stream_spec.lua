--- How the dashboard's page takes a stream apart, and when it comes back to one that was cut: its own scripts, in a real browser.
local host = require "cueball.host.uv"
local browser = require "spec.support.browser"
local monitor_stub = require "spec.support.monitor_stub"

describe("the dashboard's stream", function()
  local one, stub

  setup(function()
    one = host.run(browser.start)
    stub = monitor_stub.start()
  end)
  teardown(function()
    stub:close()
    if one then host.run(one.stop, one) end
  end)

  -- What a script returns, in the page of a stand-in that nobody listens to.
  local function run(script)
    return host.run(function()
      stub:show { pools = {} }
      one:open(stub.url)
      return one:run(script)
    end)
  end

  it("comes back after a pause that is drawn, and is longer each time", function()
    assert.equal("500 250 1000 2000 4000 8000 8000", run [=[
        return import(new URL('dashboard/stream.js', document.baseURI).href).then(({ Stream }) => {
          const delays = [], random = Math.random;
          performance.now = () => 1000; // time stands still
          const stream = new Stream({ link: ({ retryAt }) => delays.push(retryAt - 1000) });
          for (const drawn of [0, 1, 0, 0, 0, 0, 0]) {
            Math.random = () => drawn;
            if (drawn) stream.failures = 0; // as after a snapshot
            stream.pause(new Error("x"));
          }
          Math.random = random;
          delete performance.now;
          return delays.join(" ");
        })]=])
  end)

  it("is not cut where there are only snapshots, however often it asks for the stream again", function()
    assert.equal("connecting polling", run [=[
        return import(new URL('dashboard/stream.js', document.baseURI).href).then(({ Stream }) => new Promise((resolve) => {
          const kinds = new Set(), later = setTimeout;
          let count = 0;
          window.setTimeout = (fn) => later(fn, 0); // no pauses
          window.fetch = async (url) => new Response("{}", { status: url.pathname === "/events" ? 503 : 200 });
          const stream = new Stream({
            link: ({ kind }) => kinds.add(kind), choose: () => "db",
            snapshot: () => { if ((count += 1) === 40) { stream.stop(); resolve([...kinds].join(" ")); } },
          });
          stream.run();
        }))]=])
  end)

  it("reads a stream in whatever pieces it comes", function()
    assert.equal("", run [=[
        return import(new URL('dashboard/stream.js', document.baseURI).href).then(({ EventReader }) => {
          const text = "id: 1\nevent: a\ndata: one\ndata: two\r\n\r\n:\rdata:three\r\r\ndata: x\n\n\n", wrong = [];
          const read = (size) => {
            const found = [], reader = new EventReader(({ event, data, id }) => found.push([event, data, id]));
            for (let at = 0; at < text.length; at += size) reader.read(text.slice(at, at + size));
            return JSON.stringify(found);
          };
          const whole = '[["a","one\\ntwo","1"],["message","three",null],["message","x",null]]';
          for (let size = 1; size <= text.length; size += 1) if (read(size) !== whole) wrong.push(size + read(size));
          return wrong.join("; ");
        })]=])
  end)
end)
