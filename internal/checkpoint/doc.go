// Package checkpoint takes the state of running applications into an image: freeze -> capture -> move pages -> thaw or kill. Pages can also be moved
// before the freeze (precopy.go) or after it (fork.go).
//
// Run (checkpoint.go) does it for one application; a Session (session.go) has the same steps one by one, for an update, which
// freezes all applications at one instant.
//
// Invariants: what cannot be restored is refused by checks that come before anything is touched, and are repeated on the frozen
// application; until the image is complete nothing has happened that a thaw, or the death of kup, would not undo.
package checkpoint
