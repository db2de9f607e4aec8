package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kup-project/kup/internal/frames"
	"github.com/kup-project/kup/internal/kexec"
)

// word is number i of the words that lie in a frame.
func word(frame, i uint64) uint64 { return (frame + i) * 0x9e3779b97f4a7c15 }

func leave(megabytes, kernelPath, initrd string) error {
	var size uint64
	if _, err := fmt.Sscan(megabytes, &size); err != nil {
		return err
	}
	pool, err := frames.Take(size << 20)
	if err != nil {
		return err
	}
	l := left{Blocks: pool.Blocks()}
	for {
		f, err := pool.Next()
		if errors.Is(err, frames.ErrNoRoom) {
			break
		}
		if err != nil {
			return err
		}
		l.Frames = append(l.Frames, f.Addr)
		for at := 0; at < len(f.Mem); at += 8 {
			binary.LittleEndian.PutUint64(f.Mem[at:], word(f.Addr+uint64(at&^(page-1)), uint64(at%page/8)))
		}
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := writeDurable(state, text); err != nil {
		return err
	}
	options := kexec.Options{Kernel: kernelPath, Initrd: initrd, CmdLine: strings.TrimSpace(string(line)), Reserve: l.Blocks}
	if _, err := kexec.Load(options); err != nil {
		return err
	}
	if err := pool.Check(); err != nil {
		return err
	}
	return kexec.Jump()
}

func writeDurable(path string, text []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
