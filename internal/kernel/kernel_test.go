package kernel

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestVersionComparesMajorAndMinor(t *testing.T) {
	assert.Less(t, version("6.9 generic multi-buffer"), version("6.18.44-x"))
	assert.Less(t, version("5.15.0-100-generic"), version("6.1"))
	assert.Equal(t, version("6.9"), version("6.9-rc3"))
}

func TestAtLeastComparesWithTheRunningKernel(t *testing.T) {
	assert.True(t, AtLeast("2.6"))
	assert.False(t, AtLeast("1000.0"))
}
