# Two lines put tandem in front of any image.
FROM tandem-test/debian
COPY --from=tandem:test /tandem /tandem
ENTRYPOINT ["/tandem", "run", "--"]
COPY migrations /migrations
ENV TANDEM_MIGRATIONS=/migrations
