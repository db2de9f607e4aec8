package kup

import (
	"strings"

	"github.com/kup-project/kup/internal/app"
	"github.com/kup-project/kup/internal/image"
)

// Image is what an image directory holds, apart from page contents.
type Image struct {
	Dir      string          `json:"dir"`
	Sealed   bool            `json:"sealed"` // it has hashes of its contents
	Manifest *image.Manifest `json:"manifest"`
	State    *image.State    `json:"state"`
}

// Inspect reads an image and checks its metadata. It need not fit this machine's processor.
func Inspect(dir string) (*Image, error) {
	img, err := image.Open(dir, image.AnyCPU())
	if err != nil {
		return nil, err
	}
	return &Image{Dir: img.Dir, Sealed: img.Sealed(), Manifest: img.Manifest, State: img.State}, nil
}

// Verify checks everything about an image: all that Inspect does, and that its contents are those that were written.
func Verify(dir string, progress Progress) error {
	return image.Verify(dir, func(done, total int64) {
		if progress != nil {
			progress("verify", done, total)
		}
	})
}

// Removed says what Remove did.
type Removed struct {
	Name  string `json:"name,omitempty"`  // the application that was forgotten
	Image string `json:"image,omitempty"` // the image that was deleted
	Kept  string `json:"kept,omitempty"`  // the application's image that was left alone because somebody chose its place
}

// Remove deletes an image, if what is anything with a slash in it, and else forgets an application of that name.
func Remove(s State, what string) (*Removed, error) {
	if strings.Contains(what, "/") {
		if err := app.Discard(what); err != nil {
			return nil, err
		}
		return &Removed{Image: what}, nil
	}
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	kept, err := store.Remove(what)
	if err != nil {
		return nil, err
	}
	return &Removed{Name: what, Kept: kept}, nil
}
