package object

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/kup-project/kup/internal/image"
	"github.com/kup-project/kup/internal/kernel"
)

// captureOptions reads all options of the table that apply to a socket.
func captureOptions(fd int, kind optionKind) ([]image.SocketOption, error) {
	options := make([]image.SocketOption, 0, len(optionTable))
	buf := make([]byte, 64)
	for i := range optionTable {
		o := &optionTable[i]
		if o.kinds&kind == 0 {
			continue
		}
		value, err := o.read(fd, buf)
		if unknownOption(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("getsockopt %s: %w", o.name, err)
		}
		options = append(options, value)
	}
	return options, nil
}

// unknownOption reports errors of kernels, or of socket types, without an option.
func unknownOption(err error) bool {
	return errors.Is(err, kernel.ENOPROTOOPT) || errors.Is(err, kernel.EOPNOTSUPP)
}

func (o *optionEntry) read(fd int, buf []byte) (image.SocketOption, error) {
	value := image.SocketOption{Name: o.name}
	if o.form == formInt {
		n, err := kernel.SocketInt(fd, o.level, o.option)
		value.Value = int64(n)
		return value, err
	}
	size := len(buf)
	if o.form > 0 {
		size = int(o.form)
	}
	clear(buf)
	n, err := kernel.SocketOption(fd, o.level, o.option, buf[:size])
	if err != nil {
		return value, err
	}
	data := buf[:min(n, size)]
	if o.form == formString {
		data = bytes.TrimRight(data, "\x00")
	}
	value.Data = bytes.Clone(data)
	return value, nil
}

// setOptions gives a fresh socket those options of an image that belong to a phase of its life. What is right already is left
// alone: setting an option can have more effects than its value, and need privileges.
func setOptions(fd int, options []image.SocketOption, when optionPhase) error {
	fresh, err := defaultsLike(fd)
	if err != nil {
		return err
	}
	buf := make([]byte, 64)
	for _, want := range options {
		o, ok := optionByName[want.Name]
		if !ok {
			return fmt.Errorf("the image has a socket option %s, which this kup does not know", want.Name)
		}
		if o.phase != when {
			continue
		}
		if is, known := fresh[o.name]; known && !o.dependent && is.Value == want.Value && bytes.Equal(is.Data, want.Data) {
			continue
		}
		if err := o.set(fd, want, buf); err != nil {
			return fmt.Errorf("setsockopt %s: %w", o.name, err)
		}
	}
	return nil
}

// defaults are the options of fresh sockets, by family and type.
var defaults sync.Map

// defaultsLike returns the options that a fresh socket of the same family and type has, by name.
func defaultsLike(fd int) (map[string]image.SocketOption, error) {
	var like struct{ domain, kind, protocol int }
	for _, q := range []struct {
		option int
		into   *int
	}{{kernel.SoDomain, &like.domain}, {kernel.SoType, &like.kind}, {kernel.SoProtocol, &like.protocol}} {
		var err error
		if *q.into, err = kernel.SocketInt(fd, kernel.SolSocket, q.option); err != nil {
			return nil, fmt.Errorf("getsockopt: %w", err)
		}
	}
	if known, ok := defaults.Load(like); ok {
		return known.(map[string]image.SocketOption), nil
	}
	fresh, err := kernel.Socket(like.domain, like.kind, like.protocol)
	if err != nil {
		return nil, err
	}
	defer kernel.Close(fresh)
	options, err := captureOptions(fresh, ^optionKind(0)) // those of other kinds are unknown to the kernel
	if err != nil {
		return nil, err
	}
	byName := map[string]image.SocketOption{}
	for _, o := range options {
		byName[o.Name] = o
	}
	defaults.Store(like, byName)
	return byName, nil
}

func (o *optionEntry) set(fd int, want image.SocketOption, buf []byte) error {
	is, err := o.read(fd, buf)
	if unknownOption(err) && want.Value == 0 && len(want.Data) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if is.Value == want.Value && bytes.Equal(is.Data, want.Data) {
		return nil
	}
	data := want.Data
	switch o.form {
	case formInt:
		data = binary.LittleEndian.AppendUint32(nil, uint32(want.Value))
	case formString:
		data = append(bytes.Clone(data), 0)
	}
	err = kernel.SetSocketOption(fd, o.level, o.option, data)
	if o.advice && errors.Is(err, kernel.ENOENT) {
		return nil
	}
	return err
}

// option returns the value of an integer option in an image, 0 if it is not there.
func option(options []image.SocketOption, name string) int {
	for _, o := range options {
		if o.Name == name {
			return int(o.Value)
		}
	}
	return 0
}

// The sizes of socket buffers: getsockopt(2) returns twice what setsockopt(2) takes, see SO_SNDBUF in socket(7).
const (
	optSndBuf  = "SO_SNDBUF"
	optRcvBuf  = "SO_RCVBUF"
	optBufLock = "SO_BUF_LOCK"
)

// captureBuffers reads the sizes of the socket's buffers, and which of them the application has fixed.
func captureBuffers(fd int) ([]image.SocketOption, error) {
	var options []image.SocketOption
	for _, o := range []struct {
		name   string
		option int
	}{{optSndBuf, kernel.SoSndBuf}, {optRcvBuf, kernel.SoRcvBuf}, {optBufLock, kernel.SoBufLock}} {
		n, err := kernel.SocketInt(fd, kernel.SolSocket, o.option)
		if err != nil {
			return nil, fmt.Errorf("getsockopt %s: %w", o.name, err)
		}
		options = append(options, image.SocketOption{Name: o.name, Value: int64(n)})
	}
	return options, nil
}

// widenBuffers makes room for queues to be refilled, beyond the limits for applications.
func widenBuffers(fd, send, receive int) error {
	// Bookkeeping for small packets costs several times their size.
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoSndBufForce, 4*send+1<<20); err != nil {
		return fmt.Errorf("SO_SNDBUFFORCE: %w", err)
	}
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoRcvBufForce, 4*receive+1<<20); err != nil {
		return fmt.Errorf("SO_RCVBUFFORCE: %w", err)
	}
	return nil
}

// restoreBuffers sets the sizes of an image.
func restoreBuffers(fd int, options []image.SocketOption) error {
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoSndBufForce, option(options, optSndBuf)/2); err != nil {
		return fmt.Errorf("SO_SNDBUFFORCE: %w", err)
	}
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoRcvBufForce, option(options, optRcvBuf)/2); err != nil {
		return fmt.Errorf("SO_RCVBUFFORCE: %w", err)
	}
	if err := kernel.SetSocketInt(fd, kernel.SolSocket, kernel.SoBufLock, option(options, optBufLock)); err != nil {
		return fmt.Errorf("SO_BUF_LOCK: %w", err)
	}
	return nil
}
