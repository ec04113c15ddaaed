package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A mutant is one line, or a few, made wrong.
type mutant struct {
	name    string
	line    int    // of the table
	file    string // from the root of the tree
	search  string // must be there once
	replace string
	killers []killer
	lives   string // why nothing notices it; "" for all but a few
}

// A killer is the tests of a package that should notice.
type killer struct{ dir, run string }

// readTable reads the mutants of a file; see its head for how it is written.
func readTable(path string) ([]*mutant, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []*mutant
	var m *mutant
	for i, line := range strings.Split(strings.TrimSuffix(string(content), "\n"), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || word == "#":
			continue
		case word == "==":
			m = &mutant{name: rest, line: i + 1}
			all = append(all, m)
			continue
		case m == nil:
			return nil, fmt.Errorf("%s:%d: no mutant begins before this line", path, i+1)
		case line[0] == '-':
			m.search = join(m.search, line[1:])
			continue
		case line[0] == '+':
			m.replace = join(m.replace, line[1:])
			continue
		}
		switch word {
		case "in":
			m.file = rest
		case "by":
			dir, run, ok := strings.Cut(rest, " ")
			if !ok {
				return nil, fmt.Errorf("%s:%d: by FOLDER REGEXP", path, i+1)
			}
			m.killers = append(m.killers, killer{dir, run})
		case "lives":
			m.lives = rest
		default:
			return nil, fmt.Errorf("%s:%d: no line begins with %q", path, i+1, word)
		}
	}
	for _, m := range all {
		if m.name == "" || m.file == "" || m.search == "" || len(m.killers) == 0 {
			return nil, fmt.Errorf("%s:%d: a mutant needs a name, a file, what to search for, and tests", path, m.line)
		}
	}
	return all, nil
}

// join adds a line, and an empty one too.
func join(text, line string) string {
	if text == "" {
		return line
	}
	return text + "\n" + line
}

// broken is the mutant's file in the tree, as it is and with the mutant in it.
func (m *mutant) broken(tree string) (was, now []byte, err error) {
	was, err = os.ReadFile(filepath.Join(tree, m.file))
	if err != nil {
		return nil, nil, err
	}
	text := string(was)
	if n := strings.Count(text, m.search); n != 1 {
		return nil, nil, fmt.Errorf("found %d times in %s, and not once: %q", n, m.file, m.search)
	}
	return was, []byte(strings.Replace(text, m.search, m.replace, 1)), nil
}
