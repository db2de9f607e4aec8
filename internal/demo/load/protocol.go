package load

import "fmt"

// Protocol is how a server is asked for an item, and what it must say.
type Protocol struct {
	Set, Get func(key int, value []byte) (request, answer []byte)
}

// shortestAnswer is the length of "END\r\n" and "$-1\r\n", with which the servers say that there is no such item.
const shortestAnswer = 5

// Memcached is memcached's text protocol.
var Memcached = Protocol{
	Set: func(key int, value []byte) (request, answer []byte) {
		return fmt.Appendf(nil, "set key-%d 0 0 %d\r\n%s\r\n", key, len(value), value), []byte("STORED\r\n")
	},
	Get: func(key int, value []byte) (request, answer []byte) {
		return fmt.Appendf(nil, "get key-%d\r\n", key), fmt.Appendf(nil, "VALUE key-%d 0 %d\r\n%s\r\nEND\r\n", key, len(value), value)
	},
}

// Redis is redis's protocol, RESP 2.
var Redis = Protocol{
	Set: func(key int, value []byte) (request, answer []byte) {
		name := fmt.Sprintf("key-%d", key)
		return fmt.Appendf(nil, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(name), name, len(value), value), []byte("+OK\r\n")
	},
	Get: func(key int, value []byte) (request, answer []byte) {
		name := fmt.Sprintf("key-%d", key)
		return fmt.Appendf(nil, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(name), name), fmt.Appendf(nil, "$%d\r\n%s\r\n", len(value), value)
	},
}
