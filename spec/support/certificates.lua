--- A certificate authority and certificates of every kind that specs of TLS need, made by the openssl command. Each is made when a spec
-- first asks for it, once in a process; they lie in a directory that is removed when the process ends.
--
--   local certificates = require "spec.support.certificates"
--   certificates.ca.cert, certificates.ca.key      paths: the authority that the certificates below are of, unless something else is told
--   certificates.good.cert, .key                   paths of PEM files; .cert_pem, .key_pem: their texts
--
--   good           for localhost, db.example, 127.0.0.1 and ::1
--   renewed        the same names, another key
--   name_only      for db.example alone, no address
--   wildcard       for *.db.example
--   common_name    CN=localhost without any subjectAltName
--   wrong_name     for other.example
--   expired        as good, from 2019-12-01 to 2020-01-01
--   not_yet_valid  as good, from 2090-01-01 on
--   self_signed    as good, by itself
--   unknown_ca     as good, of an authority that nobody trusts: certificates.stranger
--   revoked        as good; .crl: the path of the list that has it (made by the authority, valid for years)
--   chain          as good, of an intermediate authority: .cert has its certificate too, .alone has not
--   client         CN=alice, for clients; other_client: CN=bob; unknown_client: CN=alice of the stranger
--   encrypted      good, its key encrypted with the password "secret"
--
--   certificates.make("some_name", { subject = "CN=x", names = "DNS:x,IP:127.0.0.1" or false, from = "20191201000000Z", to =,
--     usage = "serverAuth" or "clientAuth", by = certificates.ca })   another one
--   certificates.path "x.pem"     of a file in the directory, for what a spec writes itself
local shell = require "spec.support.shell"
local quote = shell.quote

-- busted loads modules anew for each file of specs.
local registry = debug.getregistry()
local made = registry["cueball.spec.certificates"]
if made then return made end

local certificates = {}
local folder, remover

local NAMES = "DNS:localhost,DNS:db.example,IP:127.0.0.1,IP:::1"

local CONFIG = [[
[ ca ]
default_ca = default
[ default ]
dir = %s
database = $dir/%s.index
serial = $dir/%s.serial
new_certs_dir = $dir
certificate = $dir/%s.pem
private_key = $dir/%s.key
default_md = sha256
default_crl_days = 3650
unique_subject = no
policy = anything
[ anything ]
commonName = supplied
]]

local function run(command, ...)
  local words = { ... }
  for index, word in ipairs(words) do words[index] = quote(word) end
  return shell.must("cd " .. quote(folder) .. " && " .. command:format(unpack(words)))
end

local function begin()
  if folder then return end
  folder = shell.must "mktemp -d /tmp/cueball-certificates-XXXXXX"
  shell.must("chmod 755 " .. quote(folder)) -- servers may run as another user
  remover = newproxy(true)
  getmetatable(remover).__gc = function() os.execute("rm -rf " .. quote(folder)) end
end

local Certificate = {}

-- The texts are read when they are asked for.
function Certificate:__index(name)
  local file = name == "cert_pem" and self.cert or name == "key_pem" and self.key or nil
  return file and shell.read(file) or nil
end

local function described(name, more)
  local self = setmetatable({ name = name, cert = folder .. "/" .. name .. ".pem", key = folder .. "/" .. name .. ".key" }, Certificate)
  for field, value in pairs(more or {}) do self[field] = value end
  return self
end

local function make_key(name)
  run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out %s && chmod 644 %s", name .. ".key", name .. ".key")
end

-- What `openssl ca` needs of an authority.
local function prepare(name)
  shell.write(folder .. "/" .. name .. ".config", CONFIG:format(folder, name, name, name, name))
  shell.write(folder .. "/" .. name .. ".index", "")
  run("openssl rand -hex 8 > %s", name .. ".serial")
end

local function make_authority(name, subject)
  make_key(name)
  run("openssl req -x509 -new -key %s -subj %s -days 3650 -addext basicConstraints=critical,CA:TRUE "
    .. "-addext keyUsage=critical,keyCertSign,cRLSign -out %s", name .. ".key", "/" .. subject, name .. ".pem")
  prepare(name)
  return described(name)
end

-- By `openssl ca`, as `openssl x509` knows no times but "now".
local function sign(name, given, extensions)
  shell.write(folder .. "/" .. name .. ".extensions", table.concat(extensions, "\n") .. "\n")
  run("openssl req -new -key %s -subj %s -out %s", name .. ".key", "/" .. given.subject, name .. ".request")
  run("openssl ca -batch -notext -config %s -startdate %s -enddate %s -extfile %s -in %s -out %s", given.by.name .. ".config",
    given.from or "20200101000000Z", given.to or "20800101000000Z", name .. ".extensions", name .. ".request", name .. ".pem")
end

--- Makes a certificate, see above.
function certificates.make(name, given)
  begin()
  local names = given.names
  if names == nil then names = NAMES end
  local extensions = { "basicConstraints = CA:FALSE", "keyUsage = digitalSignature",
    "extendedKeyUsage = " .. (given.usage or "serverAuth"), "authorityKeyIdentifier = keyid" }
  if names then extensions[#extensions + 1] = "subjectAltName = " .. names end
  make_key(name)
  sign(name, { subject = given.subject or "CN=localhost", from = given.from, to = given.to, by = given.by or certificates.ca }, extensions)
  return described(name)
end
local make = certificates.make

--- The path of a file in the directory.
function certificates.path(name)
  begin()
  return folder .. "/" .. name
end

local MAKERS = {}

function MAKERS.ca() return make_authority("ca", "CN=cueball spec CA") end
function MAKERS.stranger() return make_authority("stranger", "CN=cueball unknown CA") end
function MAKERS.good() return make("good", {}) end
function MAKERS.renewed() return make("renewed", {}) end
function MAKERS.name_only() return make("name_only", { subject = "CN=db", names = "DNS:db.example" }) end
function MAKERS.wildcard() return make("wildcard", { subject = "CN=wild", names = "DNS:*.db.example" }) end
function MAKERS.common_name() return make("common_name", { names = false }) end
function MAKERS.wrong_name() return make("wrong_name", { subject = "CN=other", names = "DNS:other.example" }) end
function MAKERS.expired() return make("expired", { from = "20191201000000Z", to = "20200101000000Z" }) end
function MAKERS.not_yet_valid() return make("not_yet_valid", { from = "20900101000000Z", to = "20950101000000Z" }) end
function MAKERS.unknown_ca() return make("unknown_ca", { by = certificates.stranger }) end
function MAKERS.client() return make("client", { subject = "CN=alice", names = false, usage = "clientAuth" }) end
function MAKERS.other_client() return make("other_client", { subject = "CN=bob", names = false, usage = "clientAuth" }) end

function MAKERS.unknown_client()
  return make("unknown_client", { subject = "CN=alice", names = false, usage = "clientAuth", by = certificates.stranger })
end

function MAKERS.self_signed()
  make_key "self_signed"
  run("openssl req -x509 -new -key self_signed.key -subj /CN=localhost -days 3650 -addext %s -out self_signed.pem",
    "subjectAltName=" .. NAMES)
  return described "self_signed"
end

function MAKERS.revoked()
  local revoked = make("revoked", {})
  run "openssl ca -batch -config ca.config -revoke revoked.pem"
  run "openssl ca -batch -config ca.config -gencrl -out revoked.crl"
  revoked.crl = folder .. "/revoked.crl"
  return revoked
end

function MAKERS.intermediate()
  make_key "intermediate"
  sign("intermediate", { subject = "CN=cueball intermediate CA", by = certificates.ca },
    { "basicConstraints = critical,CA:TRUE", "keyUsage = critical,keyCertSign,cRLSign" })
  prepare "intermediate"
  return described "intermediate"
end

function MAKERS.chain()
  local intermediate = certificates.intermediate
  local chain = make("chain", { by = intermediate })
  chain.alone = folder .. "/chain_alone.pem"
  shell.write(chain.alone, chain.cert_pem)
  shell.write(chain.cert, chain.cert_pem .. intermediate.cert_pem)
  return chain
end

function MAKERS.encrypted()
  local good = certificates.good
  run("openssl pkey -aes256 -passout pass:secret -in %s -out encrypted.key && chmod 644 encrypted.key", good.key)
  return described("encrypted", { cert = good.cert })
end

setmetatable(certificates, { __index = function(self, name)
  local maker = MAKERS[name]
  if not maker then error("there is no certificate of the name " .. tostring(name), 2) end
  begin()
  self[name] = maker()
  return self[name]
end })

registry["cueball.spec.certificates"], registry["cueball.spec.certificates.remover"] = certificates, function() return remover end

return certificates
