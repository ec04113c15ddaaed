package xsk_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}

// Every feature that docs/features.md says yes to has a test, and there it is.
func TestEveryFeatureHasItsTest(t *testing.T) {
	link := regexp.MustCompile(`\[(Test\w+)\]\(([^)]+)\)`)
	links := 0
	for _, row := range strings.Split(read(t, "docs/features.md"), "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 8 {
			continue
		}
		tests := link.FindAllStringSubmatch(cells[6], -1)
		if strings.HasPrefix(strings.TrimSpace(cells[5]), "yes") {
			assert.NotEmpty(t, tests, row)
		}
		for _, test := range tests {
			assert.Contains(t, read(t, filepath.Join("docs", test[2])), "func "+test[1]+"(", row)
			links++
		}
	}
	assert.Greater(t, links, 50)
}

// Every name in the xsk.h of this machine is in docs/porting.md.
func TestEveryNameOfXskHIsInThePortingTable(t *testing.T) {
	header := read(t, "/usr/include/xdp/xsk.h")
	header = regexp.MustCompile(`(?s)/\*.*?\*/`).ReplaceAllString(header, "")
	porting := read(t, "docs/porting.md")
	names := regexp.MustCompile(`\b(?:xsk|XSK)_\w*__\w+|\bxsk_(?:prod|cons)_\w+|\bxsk_setup\w+|\bXDP_ALWAYS\w+|\bDEFINE_\w+|\bstruct (xsk_\w+)`)
	found := names.FindAllString(header, -1)
	assert.Greater(t, len(found), 40)
	for _, name := range found {
		assert.Contains(t, porting, "`"+name+"`")
	}
}
