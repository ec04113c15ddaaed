// Package cheap looks into C's heap.
package cheap

// #include <malloc.h>
import "C"

// InUse is how many bytes malloc has given out.
func InUse() uint64 {
	info := C.mallinfo2()
	return uint64(info.uordblks) + uint64(info.hblkhd)
}
