// Package netlock keeps the kernel from answering packets for sockets that do not exist at the moment.
//
// While an application lives in an image only, its peers do not know: they retransmit, and the kernel would tell them by RST or
// ICMP that nobody is there. A lock is one nftables table that drops what comes for the application's addresses, and what
// would be sent from them. It outlives kup; whoever restores the application removes it.
//
// Packets that kup makes itself bear object.InjectedMark, and pass.
package netlock
