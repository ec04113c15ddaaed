# xsk on Debian 13, which has the library versions that give everything.
#
#   docker build -t xsk .
#   docker run --rm --privileged xsk                   # scripts/demo
#   docker run --rm --privileged xsk demo -m native -s 1500
#   docker run --rm --network host --cap-add NET_ADMIN --cap-add NET_RAW --cap-add BPF --cap-add PERFMON \
#       --cap-add IPC_LOCK xsk rxdrop -d eth0
#
# The demo makes namespaces; --privileged, or NET_ADMIN, NET_RAW, IPC_LOCK and
# SYS_ADMIN with --security-opt apparmor=unconfined. The tests run in
#
#   docker build --target build -t xsk-build .
#   docker run --rm --privileged xsk-build scripts/test

FROM golang:1.26-trixie AS build
ENV GOFLAGS=-buildvcs=false
WORKDIR /src/xsk
COPY go.mod go.sum ./
COPY scripts/lib.sh scripts/setup scripts/
RUN scripts/setup -y && rm -rf /var/lib/apt/lists/*
RUN go mod download
COPY . .
RUN go build ./... && go vet ./... && go build -o /out/ ./examples/... && \
    for module in examples/*/go.mod; do go build -C "${module%/go.mod}" -o /out/ . || exit; done

FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends libxdp1 libbpf1 libpcap0.8t64 iproute2 ethtool && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /usr/local/bin/
COPY scripts/lib.sh scripts/netns scripts/demo /opt/xsk/scripts/
ENV XSK_BIN=/usr/local/bin PATH=/opt/xsk/scripts:$PATH
CMD ["demo"]
