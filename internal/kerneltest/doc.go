// Package kerneltest holds what the machine and its user may do to a Queue, as
// tests: kill the process, take the interface away, drop everything, keep every
// frame, hand in a frame that is somebody else's. All run on the real kernel
// through the exported API, in generic and in native mode, and each ends with
// every frame accounted for.
//
// TestSelftests runs the scenarios of the kernel's own AF_XDP selftests under
// their names, with the rings too; the table beside it has all of them. Two more
// tables say which test does the work of each of libxdp's own, and of each trap
// that breaks AF_XDP programs.
package kerneltest
