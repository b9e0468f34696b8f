# The operator's image: two static programs and nothing else.
#
#   docker build --tag dbclaim .
#
# Programs that are built already can take the place of the first stage; the folder needs out/dbclaim and
# out/dbclaim-agent:
#
#   docker build --tag dbclaim --build-context builder=path/to/folder .

FROM docker.io/library/rust:1-bookworm AS builder
WORKDIR /source
COPY . .
# With an explicit target, flags do not reach build scripts and procedural macros, which cannot be static.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" \
       cargo build --locked --release --package dbclaim --bins --target "$target" \
    && install -D --target-directory=/out "target/$target/release/dbclaim" "target/$target/release/dbclaim-agent"

FROM scratch
COPY --from=builder /out/dbclaim /out/dbclaim-agent /
# A number, so that a kubelet can check runAsNonRoot without a passwd file.
USER 65532:65532
ENTRYPOINT ["/dbclaim"]
