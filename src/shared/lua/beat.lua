-- Whether the store takes writes: not on a replica, while it loads, or when it is full.
redis.call('SET', KEYS[1], '1', 'PX', '10000')
return 1
