-- The route: replace it only by one with a greater version, whose generation is not smaller.
--
-- KEYS[1] feedrank:route. ARGV: version, generation, the route as JSON.
-- Returns {1, ''} written; {0, stored JSON} refused.
local stored = redis.call('GET', KEYS[1])
if stored then
  local known, route = pcall(cjson.decode, stored)
  if known and type(route) == 'table' then
    local older = tonumber(ARGV[1]) <= (tonumber(route['version']) or -1)
    if older or tonumber(ARGV[2]) < (tonumber(route['generation']) or -1) then return {0, stored} end
  end
end
redis.call('SET', KEYS[1], ARGV[3])
return {1, ''}
