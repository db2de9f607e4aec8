package frames

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/kup-project/kup/internal/kexec"
)

// memoryDir is described in Documentation/ABI/testing/sysfs-devices-memory.
const memoryDir = "/sys/devices/system/memory"

// BlockSize is the size of a memory block, bytes: what Linux takes online and offline at once.
func BlockSize() (uint64, error) { return readNumber(memoryDir+"/block_size_bytes", 16) }

// parameter is the word on the kernel's command line that says which memory it was told to leave alone.
const parameter = "kup.memory="

// reservedParameter is the same for memory that it was told to reserve, see kexec.Options.Reserve.
const reservedParameter = "kup.reserved="

// parcelParameter is the word that says where a Parcel is.
const parcelParameter = "kup.parcel="

// noAutoload keeps a device manager from loading the modules that give such memory to the page allocator before it was read.
const noAutoload = "modprobe.blacklist=dax_hmem,kmem"

// Parameters are the words of a command line for a kernel that is to leave blocks alone.
func Parameters(blocks kexec.Ranges) string {
	if len(blocks) == 0 {
		return ""
	}
	return parameter + listed(blocks) + " " + noAutoload
}

// ReservedParameter is the word for a kernel that is to reserve memory.
func ReservedParameter(memory kexec.Ranges) string { return reservedParameter + listed(memory) }

func listed(rs kexec.Ranges) string {
	var list []string
	for _, r := range rs {
		list = append(list, fmt.Sprintf("%#x-%#x", r.Start, r.End))
	}
	return strings.Join(list, ",")
}

// IsParameter tells the words that Parameters and ReservedParameter make from others.
func IsParameter(word string) bool {
	return strings.HasPrefix(word, parameter) || strings.HasPrefix(word, reservedParameter) || strings.HasPrefix(word, parcelParameter) || word == noAutoload
}

// ParcelParameter is the word that the running kernel was told of a parcel with, "" if it was not.
func ParcelParameter() (string, error) {
	at, err := toldParcel()
	if errors.Is(err, ErrNoParcel) {
		return "", nil
	}
	return parcelWord(at), err
}

func parcelWord(at uint64) string { return fmt.Sprintf("%s%#x", parcelParameter, at) }

// toldParcel returns where a parcel was sent to the running kernel, or ErrNoParcel.
func toldParcel() (addr uint64, err error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return 0, err
	}
	for word := range strings.FieldsSeq(string(text)) {
		if number, ok := strings.CutPrefix(word, parcelParameter); ok {
			return strconv.ParseUint(number, 0, 64)
		}
	}
	return 0, ErrNoParcel
}

// Kept returns the memory that the running kernel was told to leave alone by an update.
func Kept() (kexec.Ranges, error) { return told(parameter) }

// Reserved returns the memory that the running kernel was told to reserve by an update.
func Reserved() (kexec.Ranges, error) { return told(reservedParameter) }

func told(parameter string) (kexec.Ranges, error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	return parseTold(string(text), parameter)
}

func parseTold(line, parameter string) (kexec.Ranges, error) {
	var kept []kexec.Range
	for word := range strings.FieldsSeq(line) {
		list, ok := strings.CutPrefix(word, parameter)
		if !ok {
			continue
		}
		for one := range strings.SplitSeq(list, ",") {
			var r kexec.Range
			if n, err := fmt.Sscanf(one, "0x%x-0x%x", &r.Start, &r.End); n != 2 || err != nil || r.Start >= r.End {
				return nil, fmt.Errorf("the kernel parameter %s is not readable", word)
			}
			kept = append(kept, r)
		}
	}
	return kexec.NewRanges(kept...), nil
}

// usableRAM is what the firmware gave the machine, with what this kernel was told to leave alone by an update, but without the first block: the kernel starts there.
func usableRAM(blockSize uint64) (kexec.Ranges, error) {
	memory, err := kexec.ReadMemoryMap()
	if err != nil {
		return nil, err
	}
	kept, err := Kept()
	if err != nil {
		return nil, err
	}
	return memory.Free(kept).RAM().Minus(kexec.Range{End: blockSize}), nil
}

// checkSpare wraps tooLittle unless the machine can do without size bytes more.
func checkSpare(size uint64, tooLittle error) error {
	available, err := kexec.AvailableMemory()
	if err != nil {
		return err
	}
	if available < size+spareMemory {
		return fmt.Errorf("%w: %d MB of memory are available, and it takes %d MB, of which %d MB are for the applications to go on; stop one of them, or add memory",
			tooLittle, available>>20, (size+spareMemory)>>20, spareMemory>>20)
	}
	return nil
}

func readNumber(path string, base int) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(string(text)), "0x"), base, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

func writeText(path, text string) error { return os.WriteFile(path, []byte(text), 0) }
