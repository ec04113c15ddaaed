// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>

#include "port.h"

struct xsk_umem *umem;
uint8_t *area;

static struct port *owner; /* the port whose rings the umem has */

void open_umem(struct port *first)
{
	struct xsk_umem_config config = {
		.fill_size = opt.ring,
		.comp_size = opt.ring,
		.frame_size = opt.frame_size,
	};
	size_t size = (size_t)opt.frames * opt.frame_size;
	int err;

	area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		die(errno, "map");
	err = xsk_umem__create(&umem, area, size, &first->fill, &first->comp, &config);
	if (err)
		die(err, "create umem");
	owner = first;
}

void open_port(struct port *p, const char *interface, uint32_t queue, bool rx, bool tx, int map)
{
	struct xsk_socket_config config = {
		.rx_size = opt.ring,
		.tx_size = opt.ring,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_USE_NEED_WAKEUP | XDP_COPY,
	};
	int err, i;

	/* The kernel frees a queue some time after its last user has gone. */
	for (i = 0; i < 500; i++) {
		err = p == owner ? xsk_socket__create(&p->xsk, interface, queue, umem,
						      rx ? &p->rx : NULL, tx ? &p->tx : NULL, &config)
				 : xsk_socket__create_shared(&p->xsk, interface, queue, umem, rx ? &p->rx : NULL,
							     tx ? &p->tx : NULL, &p->fill, &p->comp, &config);
		if (err != -EBUSY)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	if (err)
		die(err, "bind");
	p->fd = xsk_socket__fd(p->xsk);
	if (map >= 0 && bpf_map_update_elem(map, &queue, &p->fd, BPF_ANY))
		die(errno, "register the socket");
}

void wait_port(struct port *p, short events)
{
	if (poll(&(struct pollfd){ .fd = p->fd, .events = events }, 1, 20) < 0 && errno != EINTR)
		die(errno, "poll");
}
