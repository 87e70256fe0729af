-- Replaces the value of KEYS[1] by ARGV[1] where that has a greater version, or is the same value: 1 where it did, 0
-- where a greater one is there. The version is the bytes ARGV[2] to ARGV[3], both included, counted from 0.
--
-- Versions are compared byte by byte: Lua orders strings as the language of the server does. A value that is too short to
-- have a version is damaged, and is replaced. The same value is written again, so that WAIT waits for a write of this
-- connection.
local from, to = tonumber(ARGV[2]), tonumber(ARGV[3])
local old = redis.call('GETRANGE', KEYS[1], from, to)
if #old == to - from + 1 then
    for i = 1, #old do
        local there, here = old:byte(i), ARGV[1]:byte(from + i)
        if there > here then return 0 end
        if there < here then break end
    end
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
