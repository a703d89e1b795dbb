-- wrk ... -s load.lua URL -- BODY_FILE 'Name: value' ...
-- POSTs the same body again and again, and prints what came of it as one line of JSON.

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   wrk.method, wrk.body = "POST", file:read("*a")
   file:close()
   for i = 2, #arguments do
      local name, value = arguments[i]:match("^([^:]+): (.*)$")
      wrk.headers[name] = value
   end
end

function done(summary, latency, _)
   local errors = summary.errors
   local lost = errors.connect + errors.read + errors.write + errors.timeout
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "lost": %d, "refused": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      lost, errors.status))
end
