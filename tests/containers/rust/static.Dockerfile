# The same with a standard library for musl, whose programs are static.
ARG DYNAMIC
FROM ${DYNAMIC}
COPY root /
COPY std /usr/local/lib/rustlib/x86_64-unknown-linux-musl/lib
COPY static.toml /tmp/static.toml
COPY cargo /usr/local/bin/cargo-static
RUN cat /tmp/static.toml >> /root/.cargo/config.toml \
    && mv /usr/local/bin/cargo /usr/local/bin/cargo-as-it-is && mv /usr/local/bin/cargo-static /usr/local/bin/cargo
