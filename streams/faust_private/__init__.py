"""Everything that leans on the insides of Faust, mode and aiokafka, and nothing else (steps 1, 2, 4).

Public parts of the three libraries may be used anywhere. What is named with an underscore, what is overridden
and what is assumed about the order of their calls stands here, one module per concern; each reliance has a
test in tests/streams/test_faust_private.py that says in a sentence what a new version has moved.

| module | leans on |
|---|---|
| `raw` | aiokafka's fetcher: fetched bytes are taken whole, and kept, before records become objects |
| `consumer` | Faust's consumer and its thread: one message per fetch, own watermark, revocation, seeks |
| `threads` | mode's ServiceThread: stopping one that is still starting |
| `crash` | mode's Service: the event of a crash |
| `tables` | Faust's table manager, recovery and store: when to recover, and that nobody else touches rows |
| `producer` | aiokafka's producer: our batches stand where it has builders; errors it keeps when given up |

Modules of aiokafka without an underscore and without documentation (`codec`, `record`) are used where they
are needed, a function or a class at a time; tests/streams/test_aiokafka_modules.py says what each must do.
"""
