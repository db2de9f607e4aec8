// Package object is what processes hold through descriptors: one file per kind of kernel object, its capture and its
// rebuilding side by side.
//
// Each kind is a Handler in the registry (registry.go). To support a new kind of object, add a file with its Handler, its
// state in package image, and one line in the registry. A descriptor that no Handler claims is refused, by name.
package object
