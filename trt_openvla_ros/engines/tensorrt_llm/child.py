"""The environment of a process that starts MPI for itself, as trtllm-build does."""

from __future__ import annotations

import os

# What describes a job of MPI or its launcher. Source: split_mpi_env() of tensorrt_llm/llmapi, by
# which TensorRT-LLM cleans the environment of its own children, and what Open MPI 4.1.8 and 5.0.11
# set beside that (ORTE_, PRTE_). OPAL_PREFIX, by which Open MPI finds its own files, stays.
_MPI = (
    'CRAY_',
    'HYDRA_',
    'I_MPI_',
    'KMP_',
    'MPICH_',
    'MPI_',
    'MV2_',
    'OMPI_',
    'ORTE_',
    'PMIX_',
    'PMI_',
    'PRTE_',
    'SLURM_',
    'UCX_',
)


def clean_environment() -> dict[str, str]:
    """Give this process's environment without what would make a child a rank of an MPI job.

    If Open MPI 4 was started in this process, which importing tensorrt_llm does, or if mpirun or
    srun started this process, then a child that inherits everything fails: in tensorrt_llm ("PMIx
    is detected") or in MPI_Init. Open MPI writes with C's setenv(), which os.environ does not
    show; subprocess passes it on unless it is given an environment.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(_MPI)}
