// Package image is the snapshot directory: the state of processes as Go structs, how they are written down, and everything
// that is checked before a byte of them is believed. docs/image-format.md has the layout drawn.
//
// Words:
//
//   - The State is everything about the processes but page contents. Capture fills it, restore reads it, inspect prints it.
//   - The manifest is the file that makes a directory an image. It is written last, under another name first: a directory
//     without it is incomplete and is never restored.
//   - Contents are the files that others write into the directory: FOAM files (package foam) and the bytes of deleted files.
//   - To commit is to write state and manifest, durably. To seal is to add hashes of the contents, which takes time that
//     a frozen application does not have; a committed image can be restored, a sealed one can be verified too.
//
// Reasons for not accepting an image are sentinels that all match ErrNotAcceptable.
package image
