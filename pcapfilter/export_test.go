package pcapfilter

// A Trial is a filter's program for many test runs.
type Trial struct{ trial }

func NewTrial(f Filter) (Trial, error) {
	t, err := newTrial(f)
	return Trial{t}, err
}

func (t Trial) Close()                            { t.close() }
func (t Trial) Match(packet []byte) (bool, error) { return t.match(packet) }
