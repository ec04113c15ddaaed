package kerneltest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A proof says which test shows that something works.
type proof struct{ what, by string }

// libxdpTests are those of libxdp's own suite (test-libxdp.sh).
var libxdpTests = []proof{
	{"test_link_so", "every test links it"},
	{"test_link_a", "go build -tags xsk_static, by hand: few systems have the static library"},
	{"test_old_dispatcher", "of libxdp alone; freplace, which it takes, is refused on many machines"},
	{"test_xdp_devbound", "TestRxMetadataOfAFrame, whose program is bound to its device"},
	{"test_xdp_frags", "TestNativeTakesJumboFrames, TestNativeWithTooLargeAnMTU, TestSingleBufferProgramDecidesAlike"},
	{"test_xsk_prog_refcnt_bpffs", "TestLibxdpsProgramBehindTheDispatcherStaysAsLongAsASocketNeedsIt, which says where the kernel refuses the dispatcher; scripts/ci/vm-test has one that takes it"},
	{"test_xsk_prog_refcnt_legacy", "TestLibxdpsProgramStaysAsLongAsASocketNeedsIt"},
	{"test_xsk_non_privileged", "TestQueueWithoutPrivileges, which keeps CAP_NET_RAW with libxdp 1.3.1, as that takes no socket; none with later ones: scripts/ci/matrix; TestKernelSocketIsAnsweredWithoutPrivileges"},
	{"test_link_detach", "of libxdp's dispatcher alone; of a bpf_link, TestMethodsAfterClose"},
	{"test_xsk_umem_flags", "TestNewUmemSaysWhichRuleIsBroken, TestUmemTakesOddFramesUnaligned"},
	{"test_xsk_map_leak", "of libxdp alone; 1.3.1 leaves a descriptor of its map open for each socket"},
}

// traps are what breaks AF_XDP programs beside that.
var traps = []proof{
	{"rebind at once", "TestRebindFiftyTimesInARow"},
	{"a failed bind and another try", "TestInterfaceWithoutNativeXDPSpendsTheUmem, TestNewSocketSaysWhichRuleIsBroken"},
	{"a second socket with libxdp's program", "TestQueueThatLibxdpsProgramServesIsNotShared"},
	{"a child process that holds the queue", "TestChildDoesNotKeepTheQueueBusy"},
	{"a foreign program", "TestForeignProgramIsNamedAndStays"},
	{"a program left over from a crash", "TestProgramThatLibxdpLeftBehindIsFoundAndRemoved"},
	{"the interface goes while polling", "TestRemovedInterfaceEndsBothDirections"},
	{"link down and up", "TestLinkDownAndUpWhileBothDirectionsAreParked"},
	{"statistics after Close", "TestAfterCloseEverythingAnswersErrClosedOrZero"},
	{"Close while polling", "TestBothDirectionsParkAtOnceAndCloseWakesThem"},
	{"invalid TX metadata", "TestWrongTxMetadataIsRefusedAtTheDoor, TestWrongTxMetadataNeverBlocksTheRing"},
	{"a completion ring smaller than the TX ring", "TestCompletionRingSmallerThanTheTxRing"},
	{"completions of invalid descriptors", "TestSelftests, TestTenMillionOwnersOfFrames"},
	{"completions with another lowest bit", "TestSelftests, FuzzLayout"},
	{"recycling by the RX address", "TestSelftests posts what it got, in both modes"},
	{"no frame lost under random drops", "TestPeerThatDropsEverythingCostsNoFrame, scripts/ci/soak"},
	{"a low RLIMIT_MEMLOCK", "TestLowMemlockLimitIsExplained, TestMemlockLimitSaysNeedAndLimit"},
	{"memory on tmpfs and on disk", "TestUmemOnEveryKindOfMemory, TestUmemRefusesMemoryTheKernelCannotPin"},
	{"the end of the XSKMAP", "TestUpdateXSKMapRefusesWhatCannotWork"},
	{"two goroutines on one ring", "TestTwoGoroutinesOnASharedRingAreARace"},
	{"sharing, legal and not", "TestSharersAreClosedInEveryOrder, TestIllegalSharesAreRefusedWithTheReason"},
}

// A test that is named here or among the selftests exists, in this module.
func TestEveryProofIsATest(t *testing.T) {
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				tests[f.Name.Name] = true
			}
		}
		return nil
	}))
	all := append(append(append([]proof{}, libxdpTests...), traps...), attacks...)
	for _, s := range selftests {
		assert.True(t, s.note != "" || s.rings != nil && s.queue != nil, s.name)
		all = append(all, proof{s.name, s.note})
	}
	for _, p := range all {
		for _, name := range regexp.MustCompile(`\b(Test|Fuzz)\w+`).FindAllString(p.by, -1) {
			assert.True(t, tests[name], "%s: no %s", p.what, name)
		}
	}
	assert.Len(t, selftests, 36)
	assert.Len(t, libxdpTests, 11)
}
