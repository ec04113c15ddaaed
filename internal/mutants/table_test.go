package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	tree  = "../.."
	table = tree + "/scripts/ci/mutants.txt"
)

// A change that moves the place of a mutant has to take it along; and the tests that
// are to notice have to be there.
func TestEachMutantFindsItsPlaceAndTests(t *testing.T) {
	all, err := readTable(table)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(all), 60)
	names, lives := map[string]bool{}, 0
	for _, m := range all {
		_, _, err := m.broken(tree)
		assert.NoError(t, err, "%s:%d", table, m.line)
		assert.NotEqual(t, m.search, m.replace)
		assert.False(t, names[m.name], "%q is there twice", m.name)
		names[m.name] = true
		if m.lives != "" {
			lives++
		}
		for _, k := range m.killers {
			run, _, _ := strings.Cut(strings.ReplaceAll(k.run, "|Test", "\x00Test"), "/")
			assert.True(t, someTest(t, k.dir, strings.ReplaceAll(run, "\x00", "|")), "%s:%d: no test of %s is like %s", table, m.line, k.dir, k.run)
		}
	}
	assert.LessOrEqual(t, lives, 3)
}

// someTest reports whether a package has a test with a name like that.
func someTest(t *testing.T, dir, run string) bool {
	t.Helper()
	name, err := regexp.Compile(run)
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(tree, dir, "*_test.go"))
	require.NoError(t, err)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) && name.MatchString(f.Name.Name) {
				return true
			}
		}
	}
	return false
}

func TestReadTableSaysWhichLineIsWrong(t *testing.T) {
	for text, about := range map[string]string{
		"in a.go\n":                         ":1: no mutant begins",
		"== a\nin a.go\n-x\n":               ":1: a mutant needs",
		"== a\nby .\n":                      ":2: by FOLDER REGEXP",
		"# a\n\n== a\nat a.go\n":            `:4: no line begins with "at"`,
		"== a\nin a.go\n-x\nby . T\n== b\n": ":5: a mutant needs",
	} {
		path := filepath.Join(t.TempDir(), "table")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := readTable(path)
		assert.ErrorContains(t, err, about, "%q", text)
	}
}

// The tool itself: a mutant that a test notices, one that none does, one with which it
// hangs, one that eats memory, and two of which the table says that they live.
func TestMutantsAreToldApart(t *testing.T) {
	if os.Getenv("XSK_TEST_ALL") == "" {
		return // it builds six programs
	}
	dir := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for name, text := range map[string]string{
		"go.mod":    "module mutated\n\ngo 1.24\n",
		"a.go":      "package mutated\n\nfunc add(a, b int) int { return a + b }\n\nfunc unseen() int { return 1 }\n",
		"a_test.go": "package mutated\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) { if add(1, 2) != 3 { t.Fatal() } }\n",
		"table": "== seen\nin a.go\n-a + b\n+a - b\nby . TestAdd\n" +
			"== unseen\nin a.go\n-return 1\n+return 2\nby . TestAdd\n" +
			"== hangs\nin a.go\n-{ return a\n+{ for { }; return a\nby . TestAdd\n" +
			"== swells\nin a.go\n-{ return a\n+{ for s := []int{1}; ; { s = append(s, s...) }; return a\nby . TestAdd\n" +
			"== none\nin a.go\n-return 1\n+return 2\nby . TestNone\n" +
			"== noticed\nin a.go\n-a + b\n+a - b\nby . TestAdd\nlives they say\n" +
			"== as it says\nin a.go\n-return 1\n+return 2\nby . TestAdd\nlives they say\n" +
			"== lost\nin a.go\n-c + d\nby . TestAdd\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	all, err := readTable(filepath.Join(dir, "table"))
	require.NoError(t, err)
	was, err := os.ReadFile(filepath.Join(dir, "a.go"))
	require.NoError(t, err)
	w := &work{tree: dir, limits: limits{time: 3 * time.Second, memory: 200 << 20}, sound: map[string]bool{".": true}}
	for i, want := range []string{"", "SURVIVED: . TestAdd: passed", "only the limit ends it", "too much memory",
		"has no such test", "mend the table", "", "found 0 times"} {
		_, err := w.try(all[i])
		if want == "" {
			assert.NoError(t, err, all[i].name)
		} else {
			assert.ErrorContains(t, err, want, all[i].name)
		}
		is, err := os.ReadFile(filepath.Join(dir, "a.go"))
		require.NoError(t, err)
		assert.Equal(t, was, is, "after %s", all[i].name)
	}
}
