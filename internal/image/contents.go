package image

import (
	"fmt"
	"slices"
)

// checkOffsets checks that no two windows have offsets in common.
func checkOffsets(windows []Window) error {
	sorted := slices.Clone(windows)
	slices.SortFunc(sorted, func(a, b Window) int {
		if a.Offset < b.Offset {
			return -1
		}
		return 1
	})
	var end uint64
	for _, w := range sorted {
		if w.Offset < end {
			return fmt.Errorf("windows overlap in the file at offset %#x", w.Offset)
		}
		end = w.Offset + (w.End - w.Start)
	}
	return nil
}

// foams returns all FOAM files that a state refers to, by name.
func foams(st *State) (map[string]*FOAM, error) {
	out := map[string]*FOAM{}
	for f := range st.foams {
		if f.Physical || f.Name == "" {
			continue
		}
		if err := checkName(f.Name); err != nil {
			return nil, err
		}
		if out[f.Name] != nil {
			return nil, fmt.Errorf("two address spaces are stored in %s", f.Name)
		}
		out[f.Name] = f
	}
	return out, nil
}

// contents returns the names and kinds of all files that a state refers to.
func contents(st *State) (map[string]EntryKind, error) {
	files, err := foams(st)
	if err != nil {
		return nil, err
	}
	kinds := map[string]EntryKind{}
	for name := range files {
		kinds[name] = EntryFOAM
	}
	for _, f := range st.Files {
		if f.Regular == nil || f.Regular.Content == "" {
			continue
		}
		name := f.Regular.Content
		if err := checkName(name); err != nil {
			return nil, err
		}
		if kinds[name] == EntryFOAM {
			return nil, fmt.Errorf("%s is an address space and the bytes of a deleted file", name)
		}
		kinds[name] = EntryFile
	}
	return kinds, nil
}

// contentNames makes the names of contents part of Validate.
func (v *validator) contentNames() error {
	_, err := contents(v.st)
	return err
}

// checkContents checks that the manifest lists just the files that the state refers to, and FOAM files with their sizes.
func checkContents(m *Manifest, st *State) error {
	kinds, err := contents(st)
	if err != nil {
		return err
	}
	files, err := foams(st)
	if err != nil {
		return err
	}
	for _, e := range m.Files {
		if e.Kind == EntryState || e.Kind == EntrySeal {
			continue
		}
		if kinds[e.Name] != e.Kind {
			return fmt.Errorf("the manifest lists %s as %s, and the state does not", e.Name, e.Kind)
		}
		if f := files[e.Name]; f != nil && f.FileSize() != e.Size {
			return fmt.Errorf("%s has %d bytes, and its windows end at %d", e.Name, e.Size, f.FileSize())
		}
		delete(kinds, e.Name)
	}
	for name, kind := range kinds {
		return fmt.Errorf("the state refers to %s (%s), which is missing", name, kind)
	}
	return nil
}
