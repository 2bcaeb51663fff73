-- Whether the store takes writes: not on a replica, while it loads, or when it is full.
redis.call('HSET', KEYS[1], 'at', '1')
redis.call('PEXPIRE', KEYS[1], 10000)
return 1
