-- The fence (11): replace a feed only by a newer one, and keep the replaced one when a reader is in it.
--
-- KEYS[1] head; KEYS[2] pin of the same user (absent for fallbacks: nobody pins those).
-- ARGV: version, ttl in s, then field, value, field, value ... of the new head without its version.
-- Returns {1, replaced version or ''} written; {0, stored version} already there; {-1, stored version} refused.
-- The first write is the HSET (or a RENAME), so that a full Redis refuses before anything has changed.
local SNAPSHOT_TTL_S = 900
local SNAPSHOTS_MAX = 2

local head = KEYS[1]
local version = ARGV[1]
local stored = redis.call('HMGET', head, 'version', 'snapshots')
local old = stored[1]
if old and old == version then return {0, old} end
if old and old > version then return {-1, old} end

local function keep_old_as_snapshot(snapshots)
  redis.call('RENAME', head, head .. ':' .. old)
  redis.call('EXPIRE', head .. ':' .. old, SNAPSHOT_TTL_S)
  redis.call('DEL', KEYS[2])
  local kept, names = 1, old
  for name in string.gmatch(snapshots, '%S+') do
    if kept < SNAPSHOTS_MAX then
      names = names .. ' ' .. name
      kept = kept + 1
    else
      redis.call('DEL', head .. ':' .. name)
    end
  end
  return names
end

local function remove_fields_of_old()
  local new = {version = true, snapshots = true}
  for i = 3, #ARGV, 2 do new[ARGV[i]] = true end
  for _, field in ipairs(redis.call('HKEYS', head)) do
    if not new[field] then redis.call('HDEL', head, field) end
  end
end

local snapshots = stored[2] or ''
if old and KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  snapshots = keep_old_as_snapshot(snapshots)
end
redis.call('HSET', head, 'version', version, 'snapshots', snapshots, unpack(ARGV, 3))
if redis.call('HLEN', head) > (#ARGV - 2) / 2 + 2 then remove_fields_of_old() end
redis.call('EXPIRE', head, ARGV[2])
return {1, old or ''}
