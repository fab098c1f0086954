# Two images from one build.
#
#   tandem      (the last stage, the default) the binary and a CA bundle, to run as it is or to copy from:
#                   COPY --from=tandem /tandem /tandem
#                   ENTRYPOINT ["/tandem", "run", "--"]
#   quickstart  the small bot behind it, with WhisperEngine's timeline
#
# Each architecture builds natively: the programs are static because the builder's own target is musl. Only what the classic
# builder knows is used, which Compose 1.29 builds with: no mounts, no cross builds.

# Anything with Rust, a C compiler and a CA bundle.
ARG BUILDER=rust:1.95-alpine3.22
# What the programs stand on. Where the builder links dynamically, an image with its C library.
ARG BASE=scratch

FROM ${BUILDER} AS build
# A profile of Cargo.toml: release, or dev for a quick build.
ARG PROFILE=release
WORKDIR /src
# The dependencies alone: this layer lasts until a manifest changes.
COPY Cargo.toml Cargo.lock ./
COPY local-servers/Cargo.toml local-servers/
COPY quickstart/Cargo.toml quickstart/
RUN mkdir -p src benches local-servers/src quickstart/src/bin \
    && touch src/lib.rs local-servers/src/lib.rs \
    && for main in src/main.rs benches/figures.rs quickstart/src/main.rs quickstart/src/bin/bot.rs; do \
         echo 'fn main() {}' > "$main"; \
       done \
    && cargo build --locked --profile "$PROFILE" --package tandem --bin tandem --package quickstart --bin bot
COPY src src
COPY local-servers/src local-servers/src
COPY quickstart/src quickstart/src
COPY migrations migrations
# Cargo goes by times, and the files may be older than their stand-ins of the layer before.
RUN touch src/lib.rs src/main.rs local-servers/src/lib.rs quickstart/src/bin/bot.rs \
    && cargo build --locked --profile "$PROFILE" --package tandem --bin tandem --package quickstart --bin bot \
    && mkdir /out && cp target/*/tandem target/*/bot /out/

FROM ${BASE} AS quickstart
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tandem /tandem
COPY --from=build /out/bot /bot
COPY migrations /migrations
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt TANDEM_MIGRATIONS=/migrations
USER 65532:65532
EXPOSE 9090 3001
LABEL org.opencontainers.image.title="tandem quickstart" \
      org.opencontainers.image.description="A small bot behind tandem, with WhisperEngine's timeline"
ENTRYPOINT ["/tandem", "run", "--"]
CMD ["/bot"]

FROM ${BASE} AS tandem
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tandem /tandem
# Without a shell or a package that would say where the authorities are.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="tandem" \
      org.opencontainers.image.description="Waits for Postgres and Qdrant, proves and upgrades both along one timeline, then becomes your bot" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.documentation="${SOURCE}/blob/${REVISION}/README.md"
ENTRYPOINT ["/tandem"]
