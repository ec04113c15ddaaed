package kerneltest

// attacks are what broke when the library was attacked, on the real kernel, and what
// holds it now. The letters are those of the attack's sections.
var attacks = []proof{
	// What a packet can do.
	{"A1: packets of 19 to 64 frames at the end of a burst", "TestPacketsOfEveryLengthArriveWhole, TestABurstEndsInsideAPacketOfAnyNumberOfFragments, TestASegmentedDatagramOfALocalSenderArrivesWhole, TestAPacketOfMoreFragmentsThanTheQueueHasRoomFor, TestAPacketWithoutAnEndIsDroppedAndCounted, TestLargePacketsWaitForALateReceiver, TestPacketsOfAnyNumberOfFragmentsAreSplitWhole, TestALargePacketDoesNotStandInTheWayOfOthers, TestRunBeginsLateWithLargePackets, TestDatagramsOfAnyNumberOfFramesArriveWhole"},
	{"A1: packets of any protocol and length to a Host", "TestPacketsOfAnyProtocolAndLength"},
	{"A2: small segments that hold large buffers", "TestBuffersAreNoLargerThanWhatIsInThem, TestBadSegmentsHoldWhatTheyAreChargedFor, TestDatagramsThatWaitAreBounded"},
	{"A3: no bound on all connections", "TestConnectionsAreBounded, TestClosingConnectionsAreBounded, TestHalfOpenConnectionsAreBounded, TestMemoryOfConnectionsIsBounded, TestConnectionsThatWaitHoldLittle, TestSegmentsForAListenerAreBounded, TestSilentConnectionsAndThoseThatClose, TestBoundsBelowZeroAreRefused"},
	{"A4, H10: floods of SYNs, ARP, neighbour discovery and fragments", "TestFloods, TestMadeUpNeighboursDoNotHinderRealOnes, TestStrangersComeInAFewAtATime, TestASYNThatIsSentAgainIsKnown"},
	{"A5: the stack prints", "TestTheStackDoesNotPrint"},

	// What a network can do to netstack.
	{"B1: 1 % loss, and reordering", "TestOnePercentLossIsNoTimeout, TestReorderingHoldsNothingUp, TestThePaceOfAConnectionIsFound"},
	{"B2: UDP over a narrow path", "TestWhatIsSentGoesOverANarrowPath, TestPingsAreAnsweredOverANarrowPath, TestUDPGoesOverANarrowLink, TestWhatARouterTellsOfAPath, TestPathsAreBoundedAndEnd, FuzzPacketTooBig"},
	{"B3, B7, B9: renewals that are refused, wrong or never", "TestDHCPRenewals, TestDHCPTimes, TestDHCPPauseBetweenRenewals"},
	{"B4: leases without a mask, or with one that cannot be", "TestDHCPOptions, TestDHCPMaskOfTheClass, TestDHCPLeasesThatCannotBe"},
	{"B5: a lease of an address that the kernel or a neighbour has", "TestDHCPAddressesOfOthers, TestDHCPIdentifierIsOurOwnAndStays"},
	{"B6: an address of the kernel", "TestAddressesOfTheKernelAreRefused, TestAddressesThatNoHostHasAreRefused"},
	{"B8: the kernel's own DHCP client", "TestDHCPLeavesTheKernelsClientAlone, TestDHCPHearsWhatTheFilterTakes"},
	{"B3 to B9: servers of all kinds, and a real one", "TestDHCPAtTheBeginning, TestDHCPWithDnsmasq, TestDHCPServerBehindARouter, TestDHCPHearsItsTransactionOnly, FuzzDHCPAnswer, FuzzDHCPFrame"},
	{"B10: the interface goes while somebody waits", "TestWhoeverWaitsIsToldThatTheInterfaceIsGone, TestDHCPEndsWithTheInterface"},
	{"B11: SetLinger and a peer with a closed window", "TestLingerGivesUp, TestLingerLetsAllArrive"},
	{"B12: UDP to a neighbour that does not answer", "TestUDPToANeighbourThatDoesNotAnswer: a kernel tells no error either"},
	{"B13: source routes", "TestSourceRouteIsDroppedAndCounted"},
	{"B14: a handshake whose last acknowledgment lacks timestamps", "TestUpstreamStillIgnoresAHandshakeWithoutTimestamp, which tells when gVisor has mended it"},
	{"B15: a Filter on the kernel's own address", "TestFilterOnTheKernelsAddressFindsNeighbours, TestFilterOnAnAddressOfOursIsFound"},

	// What an interface and its life can do.
	{"C1: frames of a port that was removed", "TestFramesOfAnInterfaceThatIsGoneComeBack, TestENOBUFSCountsTheRetired"},
	{"C2: queues that are opened again and again on one Umem", "TestReopeningAQueueCostsNothing, TestALateEndOfALoanSparesWhoHasTheNumberNow"},
	{"C3: a program or an entry that was taken away", "TestCheckSaysThatLibxdpsProgramIsGone, TestCheckOfAMapOfOnesOwn, TestCheckNamesTheSocketThatHasTheEntry, TestCheckOfAnInterfaceThatIsGone, TestAHostKnowsWhetherItIsServed"},
	{"C7: children that inherit what libbpf opens", "TestChildrenInheritNothing"},
	{"C8: few descriptors left", "TestFewDescriptorsLeft"},
	{"C9: xdp.frags in generic mode", "TestGenericModeGetsNoFrags, TestAutoThatEndsInGenericModeGetsNoFrags, TestGenericQueueReceivesPacketsOfSeveralBuffers, TestGenericQueueReceivesUnsegmentedPackets"},

	// Filters.
	{"D2: tags of type 0x9100", "TestAllTagsAreAlike"},
	{"D3: shifts by 32 and more", "TestShiftsBeyondTheWordAreZero, TestArithmeticIsLibpcaps, FuzzArithmetic"},
	{"D4, D5: ssh that this host opens, or forwards", "TestFilterKeepsLoginsToElsewhere"},

	// Messages and documentation.
	{"E: both kinds of closed", "TestErrIsBothKindsOfClosed, TestClosedIsBothKindsOfClosed"},
	{"E: refused socket families", "TestRefusedSocketsNameTheSetting, TestRefusedSocketsAreNamed, TestRefusedNetlinkIsNamed, TestOpenNamesRefusedSockets"},
	{"E: a packet longer than the MTU", "TestAPacketLongerThanTheMTUIsNamed"},
	{"E: missing rights, one a try", "TestMissingRightsComeAtOnce"},
	{"E: no interface of that name", "TestAttachToUnknownInterface"},
	{"E: a slice that outlives its memory", "TestASliceBeyondItsFrameIsAFault"},
	{"E: libbpf's logger is replaced", "TestAttachPutsTheLibbpfLoggerBack"},
	{"E: completions of refused descriptors; RxBurstWait without room; what libxdp's program leaves", "TestRefusedDescriptorsAreCompleted, TestRxBurstWaitWithoutRoomDoesNotWait, TestLibxdpsProgramLeavesTwoDescriptorsAtMost"},
	{"E: which queue a Queue is", "TestQueueAndSocketNameTheirInterfaceAndQueue"},

	// Lines that could be broken; scripts/ci/mutants breaks them and more.
	{"F: Keep, closed pools, loans, starved receivers", "TestAClosedPoolGivesNoFrames, TestTheEndOfTheLastLoanReleasesTheMemory, TestAFrameThatComesBackMeanwhileIsSeen, TestDescriptorsAreCloseOnExec"},
	{"F: the hangs", "TestTheErrorOfTheDeviceIsKept, TestWhoTakesFramesLocksShardsInOneOrder"},
	{"F: joining and verifying", "TestWhatIsJoinedFitsAnIPHeader, TestEqualAcknowledgmentsAllGoOut, TestPacketsForAnotherHostAreLeftAlone, TestJoinedPacketsAreNotVerifiedBesideAPiece"},
	{"F: Close of a Splitter and a Tap under load", "TestRunEndsWhilePacketsComeFasterThanTheyAreTaken, TestATapThatIsClosedWhileItCopiesLosesNoFrame"},
	{"F: the fences", "TestAWakeUpIsSeenByOneSideOrTheOther"},
	{"G: the kernel's scenarios", "TestSelftests, TestLibxdpsProgramBehindTheDispatcherStaysAsLongAsASocketNeedsIt"},

	// Other people's programs on netstack.
	{"H1: losses of the queues that Open makes", "TestLossesBelowAreCounted"},
	{"H2: a client that vanishes", "TestConnectionsAreKeptAliveAsByPackageNet, TestConnectionsOfAVanishedPeerEnd"},
	{"H3, H8: UDPConn's buffers and methods", "TestUDPConnHasTheMethodsOfPackageNet, TestAllAddressesPrintAsInPackageNet"},
	{"H4: the last acknowledgment is lost", "TestALostLastAcknowledgmentHoldsNoConnection; gVisor has mended it"},
	{"H5: no port left", "TestNoPortLeftIsNoTimeout, TestConnectionsThatCloseDoNotTakeAllPorts"},
	{"H6: TIME-WAIT", "TestClosingConnectionsAreBounded, TestSilentConnectionsAndThoseThatClose"},
}
