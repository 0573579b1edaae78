"""Networks for the benchmarks of rewrites, by name.

Enters: a name, a scale, for some the folder of operator graphs. Leaves: a `Network`: a module of
the graph dialect, its function, which parameters are fixed, and arrays to call it with.

    network = NETWORKS["bert"](scale=0.1)
    program = hectorite.compile(str(network.module), fixed=...)
"""

from benchmarks.networks.convolutional import (
    inception_v1,
    inception_v3,
    resnet50,
    resnext50,
    squeezenet,
)
from benchmarks.networks.graphs import gat_scores, gcn_aggregate_first, gcn_project_first
from benchmarks.networks.network import Make, Network
from benchmarks.networks.published import (
    bert_published,
    min_dalle_published,
    transformer_transducer_published,
    vit_published,
)
from benchmarks.networks.recurrent import lstm, nas_rnn, nas_rnn_shared
from benchmarks.networks.transformers import bert, llama_decode, llama_prefill, vit

NETWORKS: dict[str, Make] = {
    make.__name__: make
    for make in (
        nas_rnn,
        nas_rnn_shared,
        lstm,
        bert,
        bert_published,
        vit,
        vit_published,
        min_dalle_published,
        transformer_transducer_published,
        llama_prefill,
        llama_decode,
        resnext50,
        resnet50,
        inception_v1,
        inception_v3,
        squeezenet,
        gcn_aggregate_first,
        gcn_project_first,
        gat_scores,
    )
}
"""What makes each network; `scale` is 1 for the published sizes."""

FROM_FILES = ("resnet50", "inception_v1", "inception_v3", "squeezenet")
"""Those that take `data_dir`, the folder of operator graphs."""

__all__ = ["FROM_FILES", "NETWORKS", "Network"]
