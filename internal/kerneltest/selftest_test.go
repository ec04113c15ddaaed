package kerneltest

import "testing"

// A selftest is a scenario of the kernel's AF_XDP selftests (xskxceiver,
// test_xsk.c), under the name that it has there: with the rings, and through
// Queues where that is something else.
type selftest struct {
	name  string
	rings func(t *testing.T, m mode)
	queue func(t *testing.T, m mode)
	note  string // why one is missing, or the test that does its work
}

// selftests are all 36, in the kernel's order.
var selftests = []selftest{
	{"SEND_RECEIVE", sendReceive(wire{}, 4096, 64), queueSendReceive(xsk4K, 4096, 64), ""},
	{"SEND_RECEIVE_2K_FRAME", sendReceive(wire{umem: frames2K}, 4096, 64), queueSendReceive(frames2K, 4096, 64), ""},
	{"SEND_RECEIVE_SINGLE_PKT", sendReceive(wire{}, 1, 1), queueSendReceive(xsk4K, 1, 1), ""},
	{"POLL_RX", pollRx, nil, "Queue.Receive waits by itself"},
	{"POLL_TX", pollTx, nil, "Queue.Send waits by itself"},
	{"POLL_RXQ_FULL", pollRxIdle, queueReceiveIdle, ""},
	{"POLL_TXQ_FULL", pollTxFull, queueSendFull, ""},
	{"SEND_RECEIVE_UNALIGNED", sendReceiveUnaligned, queueUnaligned, ""},
	{"ALIGNED_INV_DESC", invalidDescs(xsk4K), nil, "TestSendRefusesEveryWrongFrameByItsAddress"},
	{"ALIGNED_INV_DESC_2K_FRAME_SIZE", invalidDescs(frames2K), nil, "TestSendRefusesEveryWrongFrameByItsAddress"},
	{"UNALIGNED_INV_DESC", invalidDescs(unaligned(4096)), queueUnalignedInvalid(4096), ""},
	{"UNALIGNED_INV_DESC_4001_FRAME_SIZE", invalidDescs(unaligned(4001)), queueUnalignedInvalid(4001), ""},
	{"UMEM_HEADROOM", umemHeadroom, queueHeadroom, ""},
	{"TEARDOWN", teardown, queueTeardown, ""},
	{"BIDIRECTIONAL", bidirectional, queueBidirectional, ""},
	{"STAT_RX_DROPPED", statRxDropped, queueRxDropped, ""},
	{"STAT_TX_INVALID", statTxInvalid, nil, "TestSendRefusesEveryWrongFrameByItsAddress"},
	{"STAT_RX_FULL", statRxFull, nil, "TestReceiverThatStopsForASecondLosesNoFrame"},
	{"STAT_FILL_EMPTY", statFillEmpty, nil, "TestEveryFrameKeptIsENOBUFSWithTheCount"},
	{"XDP_PROG_CLEANUP", progCleanup, queueProgCleanup, ""},
	{"XDP_DROP_HALF", dropHalf, queueDropHalf, ""},
	{"XDP_SHARED_UMEM", sharedUmem, nil, "a Umem has one Queue a queue: TestAllQueuesOfAnInterfaceOnOneUmem"},
	{"XDP_METADATA_COPY", metadataCopy("meta", 64), queueMetadataCopy("meta", 64), ""},
	{"XDP_METADATA_COPY_MULTI_BUFF", metadataCopy("meta_frags", 9000), queueMetadataCopy("meta_frags", 9000), "TestRxMetadataOfAPacketInFragments"},
	{"SEND_RECEIVE_9K_PACKETS", sendReceive9K(xsk4K), queueSendReceive9K(xsk4K), ""},
	{"SEND_RECEIVE_UNALIGNED_9K_PACKETS", sendReceive9K(unaligned(4001)), queueSendReceive9K(unaligned(3000)), ""},
	{"ALIGNED_INV_DESC_MULTI_BUFF", invalidChains(xsk4K), nil, "TestJumboPacketsOfAllLengthsAndBurstsThatEndInTheMiddle"},
	{"UNALIGNED_INV_DESC_MULTI_BUFF", invalidChains(unaligned(4096)), nil, "TestJumboPacketsOfAllLengthsAndBurstsThatEndInTheMiddle"},
	{"TOO_MANY_FRAGS", tooManyFrags, queueTooManyFrags, ""},
	{"HW_SW_MIN_RING_SIZE", nil, nil, "sets the ring sizes of a NIC; veth has none"},
	{"HW_SW_MAX_RING_SIZE", nil, nil, "sets the ring sizes of a NIC; veth has none"},
	{"XDP_ADJUST_TAIL_SHRINK", resize{"tail", -4, 128}.rings, resize{"tail", -4, 128}.queue, ""},
	{"XDP_ADJUST_TAIL_SHRINK_MULTI_BUFF", resize{"tail_frags", -4096, 6144}.rings, resize{"tail_frags", -4096, 6144}.queue, ""},
	{"XDP_ADJUST_TAIL_GROW", resize{"tail", 4, 124}.rings, resize{"tail", 4, 124}.queue, ""},
	{"XDP_ADJUST_TAIL_GROW_MULTI_BUFF", growMulti(resize.rings), growMulti(resize.queue), ""},
	{"TX_QUEUE_CONSUMER", txQueueConsumer, nil, "TestOneTxBurstSendsMoreThanOneKick: a burst goes on kicking"},
}

func TestSelftests(t *testing.T) {
	for _, s := range selftests {
		for layer, run := range map[string]func(*testing.T, mode){"rings": s.rings, "queue": s.queue} {
			if run != nil {
				t.Run(s.name+"/"+layer, func(t *testing.T) { inBothModes(t, run) })
			}
		}
	}
}
