# ssh-mcp over HTTP, as a user without rights, in an image without a shell. packaging/README.md says how to use it.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN packaging/build \
    && install -d /out/home \
    && install -m 0755 target/dist/ssh-mcp target/dist/ssh-mcp-stdio /out/

# glibc, libgcc and a user of number 65532: some 25 MB. No shell: ProxyCommand, Match exec and secrets from a command need
# an image of your own, FROM debian:bookworm-slim with the same COPY lines.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ssh-mcp /out/ssh-mcp-stdio /usr/local/bin/
# Known hosts live here: give it a volume to keep them.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/home /var/lib/ssh-mcp
ENV HOME=/var/lib/ssh-mcp
# 127.0.0.1 of the container is nobody else's. With this address it starts only with a token (MCP_TOKEN or MCP_TOKEN_FILE)
# and TLS (MCP_TLS_CERT, MCP_TLS_KEY) or --insecure-http. None of them is in the image.
ENV MCP_BIND=0.0.0.0
ENV MCP_PORT=8000
EXPOSE 8000
VOLUME /var/lib/ssh-mcp
WORKDIR /var/lib/ssh-mcp
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/ssh-mcp"]
