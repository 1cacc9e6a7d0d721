"""The Open Inference Protocol, version 2, as KServe and Triton speak it: REST, binary tensors and gRPC.

`bodies` frames requests; `tensors` holds their values; `models` maps serve functions to named tensors, `questions`
and `answers` to the plane's records and back; `routes` and `rpc` are the two ways in. Nothing here calls a function.
"""
