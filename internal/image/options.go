package image

import "sync"

// SocketOptions are the options of a socket. Many sockets have the same: they are decoded once, and must not be changed in place.
type SocketOptions []SocketOption

// decoded has lists of options by their bytes, as many as may differ in a server.
var decoded struct {
	sync.Mutex
	lists map[string]SocketOptions
}

// mostDecoded bounds decoded: what does not fit is decoded each time.
const mostDecoded = 1 << 10

// UnmarshalCBOR implements cbor.Unmarshaler.
func (o *SocketOptions) UnmarshalCBOR(data []byte) error {
	decoded.Lock()
	defer decoded.Unlock()
	if known, ok := decoded.lists[string(data)]; ok {
		*o = known
		return nil
	}
	var list []SocketOption
	if err := decoder.Unmarshal(data, &list); err != nil {
		return err
	}
	*o = list[:len(list):len(list)]
	if decoded.lists == nil {
		decoded.lists = map[string]SocketOptions{}
	}
	if len(decoded.lists) < mostDecoded {
		decoded.lists[string(data)] = *o
	}
	return nil
}
