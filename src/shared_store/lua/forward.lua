-- Leaves a usage line for the herdgate that granted its request. KEYS: its list. ARGV: the line.
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -10000, -1)
redis.call('PEXPIRE', KEYS[1], 3600000)
return 1
