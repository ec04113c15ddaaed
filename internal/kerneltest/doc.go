// Package kerneltest holds what the machine and its user may do to a Queue, as
// tests: kill the process, take the interface away, drop everything, keep every
// frame, hand in a frame that is somebody else's. All run on the real kernel
// through the exported API, in generic and in native mode, and each ends with
// every frame accounted for.
package kerneltest
