// Package kmod builds kup's kernel module for another kernel than the running one, and tells before an update whether that kernel will take it.
//
// It needs what the kernel's distribution calls its headers: a folder with the configuration, the header files and Module.symvers of exactly that kernel, and
// the compiler that they name. What the module looks up by name when it is loaded is looked for beforehand in the kernel's own description of its types and
// functions (BTF), parameters included.
package kmod
