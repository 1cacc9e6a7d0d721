-- Sends the bodies of a file, one a line and in turn, or the whole file as one body where it is binary.
-- Prints what happened as one line of JSON.
local requests, turn = {}, 0

function init(arguments)
  if arguments[2] == "whole" then
    local file = assert(io.open(arguments[1], "rb"))
    requests[1] = wrk.format("POST", nil, nil, file:read("*a"))
    file:close()
    return
  end
  for line in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, nil, line)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  local errors = summary.errors
  print(string.format(
    '{"answers":%d,"seconds":%.6f,"p50_ms":%.4f,"p99_ms":%.4f,"refused":%d,"broken":%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
