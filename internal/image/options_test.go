package image

import (
	"bytes"
	"testing"
)

// TestEqualOptionsAreDecodedOnce looks whether lists are what they were, shared or not.
func TestEqualOptionsAreDecodedOnce(t *testing.T) {
	list := SocketOptions{{Name: "SO_KEEPALIVE", Value: 1}, {Name: "TCP_CONGESTION", Data: []byte("cubic")}}
	other := SocketOptions{{Name: "SO_KEEPALIVE", Value: 2}}
	data, err := encoder.Marshal([]SocketOptions{list, other, list})
	if err != nil {
		t.Fatal(err)
	}
	var got []SocketOptions
	if err := decoder.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if &got[0][0] != &got[2][0] || cap(got[0]) != len(got[0]) {
		t.Error("equal lists are not one, or can be appended to")
	}
	again, err := encoder.Marshal(got)
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("%+v instead of %+v, %v", got, []SocketOptions{list, other, list}, err)
	}
	if err := decoder.Unmarshal([]byte("\x81\x81\xa1\x64what\x01"), &got); err == nil {
		t.Error("an unknown field was accepted")
	}
}
