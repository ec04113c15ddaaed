package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reportOf feeds a report what "go test -json" prints for package p.
func reportOf(t *testing.T, lines ...string) (*report, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	r := newReport(&out)
	for _, line := range lines {
		var e event
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		r.add(e)
	}
	r.end(nil)
	return r, &out
}

func TestLeavesAreCounted(t *testing.T) {
	r, out := reportOf(t,
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"run","Package":"p","Test":"TestA/x"}`,
		`{"Action":"run","Package":"p","Test":"TestA/y"}`,
		`{"Action":"output","Package":"p","Test":"TestA/y","Output":"the reason\n"}`,
		`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
		`{"Action":"fail","Package":"p","Test":"TestA/y"}`,
		`{"Action":"fail","Package":"p","Test":"TestA"}`,
		`{"Action":"fail","Package":"p"}`)
	assert.Equal(t, 1, r.passed)
	assert.Equal(t, []string{"p TestA/y"}, r.failed)
	assert.Contains(t, out.String(), "the reason")
}

func TestOnlyANewerKernelIsAReasonToSkip(t *testing.T) {
	r, _ := reportOf(t,
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: need: 6.9 generic multi-buffer\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestA"}`,
		`{"Action":"run","Package":"p","Test":"TestB"}`,
		`{"Action":"output","Package":"p","Test":"TestB","Output":"    a_test.go:2: needs root\n"}`,
		`{"Action":"skip","Package":"p","Test":"TestB"}`,
		`{"Action":"pass","Package":"p"}`)
	assert.Equal(t, []string{"p TestA: kernel 6.9 generic multi-buffer"}, r.skipped)
	assert.Equal(t, []string{"p TestB: skipped, and not for an older kernel"}, r.failed)
}

func TestWhatDoesNotBuildFails(t *testing.T) {
	r, out := reportOf(t,
		`{"ImportPath":"p [p.test]","Action":"build-output","Output":"x.go:1: undefined: y\n"}`,
		`{"ImportPath":"p [p.test]","Action":"build-fail"}`,
		`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`)
	assert.Equal(t, []string{"p"}, r.failed)
	assert.Contains(t, out.String(), "undefined: y")
}

func TestAPanicFailsTheTestThatRan(t *testing.T) {
	r, out := reportOf(t,
		`{"Action":"run","Package":"p","Test":"TestA"}`,
		`{"Action":"output","Package":"p","Test":"TestA","Output":"panic: boom\n"}`,
		`{"Action":"fail","Package":"p"}`)
	assert.Equal(t, []string{"p TestA: did not end"}, r.failed)
	assert.Equal(t, 1, strings.Count(out.String(), "boom"))
}

func TestNoTestAtAllIsAFailure(t *testing.T) {
	r, _ := reportOf(t, `{"Action":"skip","Package":"p"}`)
	assert.Equal(t, []string{"go test: no test ran"}, r.failed)
}
