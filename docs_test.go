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

// Every test that a page names is there, and docs/security.md names one for each
// privilege and bound that it promises.
func TestEveryTestThatAPageNamesIsThere(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	link := regexp.MustCompile(`\[((?:Test|Fuzz|Example)\w+)\]\(([^)#]+)\)`)
	named := map[string]int{}
	for _, page := range pages {
		for _, test := range link.FindAllStringSubmatch(read(t, page), -1) {
			assert.Contains(t, read(t, filepath.Join("docs", test[2])), "func "+test[1]+"(", page)
			named[filepath.Base(page)]++
		}
	}
	assert.Greater(t, named["security.md"], 50)
}

// Every error that docs/troubleshooting.md explains is one of ours, word by word.
func TestEveryErrorOfTroubleshootingIsOne(t *testing.T) {
	var source strings.Builder
	for _, pattern := range []string{"*.go", "bpf/*.go"} {
		names, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, name := range names {
			source.WriteString(read(t, name))
		}
	}
	var rows [][]string
	for _, heading := range []string{"## EBUSY, when I open a queue", "## What an error says"} {
		_, section, found := strings.Cut(read(t, "docs/troubleshooting.md"), heading)
		require.True(t, found, heading)
		section, _, _ = strings.Cut(section, "\n## ")
		rows = append(rows, regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1)...)
	}
	assert.Greater(t, len(rows), 20)
	for _, row := range rows {
		for _, part := range strings.Split(row[1], "…") {
			assert.Contains(t, source.String(), part, row[1])
		}
	}
}

// Every link from one page to another, or to a heading, leads somewhere.
func TestLinksOfThePagesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	link := regexp.MustCompile(`\]\(([^)#:\s]*)(#[^)\s]*)?\)`)
	links := 0
	for _, page := range append(pages, "README.md") {
		for _, l := range link.FindAllStringSubmatch(read(t, page), -1) {
			target := page
			if l[1] != "" {
				target = filepath.Join(filepath.Dir(page), l[1])
			}
			if _, err := os.Stat(target); !assert.NoError(t, err, page) {
				continue
			}
			if links++; l[2] != "" {
				assert.Contains(t, anchors(read(t, target)), l[2], page)
			}
		}
	}
	assert.Greater(t, links, 20)
}

// anchors are those that GitHub gives the headings of a page.
func anchors(page string) (names []string) {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := drop.ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, "#"+strings.ReplaceAll(name, " ", "-"))
	}
	return names
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
