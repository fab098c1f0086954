# Stands in for the builder image: this machine's own toolchain and the locked crates, so that nothing is fetched.
FROM tandem-test/debian
COPY bin /usr/local/bin
COPY lib /usr/local/lib
COPY crates /crates
COPY config.toml /root/.cargo/config.toml
