-- wrk's side of load.py: what to send is in the files of a folder, what came of it is the last line of the output.
-- Every answer is looked at.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

local function lines(name)
  local found = {}
  for line in io.lines(name) do
    found[#found + 1] = line
  end
  return found
end

function init(args)
  folder, method, path, content_type, status, expect = args[1], args[2], args[3], args[4], tonumber(args[5]), args[6]
  -- So many milliseconds on average, before each request: a load that is no more than a part of what could be.
  local pause = tonumber(args[7])
  if pause > 0 then
    function delay()
      return math.random(0, 2 * pause)
    end
  end
  tokens, pages, rotating = lines(folder .. "/tokens"), lines(folder .. "/pages"), lines(folder .. "/rotating")
  local file = io.open(folder .. "/body")
  body = file:read("*a")
  file:close()
  wrong, turn, number = 0, 0, os.time() % 1000000 * 100000
  first, last = 1, #rotating
  fixed = {}
  -- What does not change is written once.
  if body == "" then
    for index = 1, math.max(#tokens, #pages, 1) do
      fixed[index] = wrk.format(method, path .. one_of(pages, index), headers_of(one_of(tokens, index)))
    end
  end
end

function one_of(list, index)
  return #list > 0 and list[index % #list + 1] or ""
end

function headers_of(token)
  local headers = {}
  if token ~= "" then
    headers["Authorization"] = "Bearer " .. token
  end
  if body ~= "" then
    headers["Content-Type"] = content_type
  end
  return headers
end

function request()
  turn = turn + 1
  if #fixed > 0 then
    return fixed[turn % #fixed + 1]
  end
  number = number + 1
  -- As many as contenders.ASKING; user1 is the administrator.
  local sent = body:gsub("{n}", string.format("%d", number)):gsub("{turn}", string.format("%d", turn % 64 + 2))
  if last > 0 then
    sent = sent:gsub("{token}", rotating[first])
    rotating[first] = nil
    first = first + 1
  end
  return wrk.format(method, path, headers_of(one_of(tokens, turn)), sent)
end

function response(answered, headers, answer)
  if answered ~= status or not answer:find(expect, 1, true) then
    wrong = wrong + 1
  end
  if last > 0 then
    local following = answer:match('"refresh_token":%s*"([^"]+)"') or answer:match('"refresh":%s*"([^"]+)"')
    if following then
      last = last + 1
      rotating[last] = following
    end
  end
end

function done(summary, latency, requests)
  local wrong = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  -- Whoever waits for an answer at the end has used its token: those are lost.
  local left = io.open(threads[1]:get("folder") .. "/left", "w")
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    for _, token in pairs(thread:get("rotating")) do
      left:write(token, "\n")
    end
  end
  left:close()
  io.write(string.format(
    '\n{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "wrong": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, wrong
  ))
end
