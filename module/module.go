// Package module holds the source of kup's kernel module, so that the one program kup can build it for the kernel that comes next.
//
// The module is C, and under the GNU General Public License, version 2, as what is linked into Linux must be. Everything else of kup is under the Apache
// License, and nothing of it is linked with the module: they speak by the ioctls of kup_frames_uapi.h.
package module

import "embed"

// Name is the name of the module's folder and, with .ko, of its file.
const Name = "kup-frames"

// Source is folder kup-frames.
//
//go:embed kup-frames
var Source embed.FS
