package image

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// View is an image as people and programs look at it: what `kup inspect` prints.
type View struct {
	Dir      string
	Manifest *Manifest
	State    *State
}

// Inspect reads the image in dir and checks all but its contents, like Open; it may be for another processor.
func Inspect(dir string) (*View, error) {
	img, err := Open(dir, AnyCPU())
	if err != nil {
		return nil, err
	}
	return &View{Dir: img.Dir, Manifest: img.Manifest, State: img.State}, nil
}

// MarshalJSON returns everything about the image, in the order and with the names of the structs of this package. Bytes are
// hexadecimal; more than 256 of them, as well as what is in queues, are given by their number and BLAKE3 hash alone.
func (v *View) MarshalJSON() ([]byte, error) {
	manifest, err := json.Marshal(v.Manifest)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `{"dir":%s,"format":%d,"sealed":%t,"manifest":%s,"state":`, quoted(v.Dir), v.Manifest.Format, v.Manifest.Sealed(), manifest)
	if err := appendJSON(&out, reflect.ValueOf(v.State)); err != nil {
		return nil, err
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// WriteJSON writes the view as indented JSON.
func (v *View) WriteJSON(w io.Writer) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

// mostBytes is how many bytes of a field are printed.
const mostBytes = 256

// appendJSON writes a value as encoding/json would, bytes excepted.
func appendJSON(out *bytes.Buffer, v reflect.Value) error {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		out.WriteString(quoted(string(text)))
		return err
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			out.WriteString("null")
			return nil
		}
		return appendJSON(out, v.Elem())
	case reflect.Struct:
		return appendStruct(out, v)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			out.WriteString(quoted(describeBytes(v.Bytes())))
			return nil
		}
		return appendList(out, v)
	case reflect.String:
		out.WriteString(quoted(v.String()))
		return nil
	case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		fmt.Fprint(out, v.Interface())
		return nil
	}
	return fmt.Errorf("a state with a %s in it cannot be printed", v.Type())
}

func appendStruct(out *bytes.Buffer, v reflect.Value) error {
	separator := byte('{')
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		field := v.Field(i)
		if strings.Contains(options, "omitempty") && (field.IsZero() || field.Kind() == reflect.Slice && field.Len() == 0) {
			continue
		}
		out.WriteByte(separator)
		separator = ','
		out.WriteString(quoted(name) + ":")
		if err := appendJSON(out, field); err != nil {
			return err
		}
	}
	if separator == '{' {
		out.WriteByte('{')
	}
	out.WriteByte('}')
	return nil
}

func appendList(out *bytes.Buffer, v reflect.Value) error {
	out.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := appendJSON(out, v.Index(i)); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	return nil
}

func describeBytes(b []byte) string {
	if len(b) <= mostBytes {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%d bytes, blake3 %s", len(b), hashHex(b))
}

// quoted returns a string in JSON. Bytes that are no UTF-8, which names of files may hold, become \xNN in the text.
func quoted(s string) string {
	if !utf8.ValidString(s) {
		var b strings.Builder
		for i := 0; i < len(s); {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			} else {
				b.WriteString(s[i : i+n])
			}
			i += n
		}
		s = b.String()
	}
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // no string fails
	}
	return string(data)
}
