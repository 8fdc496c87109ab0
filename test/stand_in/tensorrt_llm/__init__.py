"""Stands in for TensorRT-LLM: its calls as trtllm_contract.json has them, over the torch engine.

What TensorRT-LLM would refuse it refuses, and also what TensorRT-LLM takes without meaning it:
unknown keywords, and a call while another one runs. That TensorRT-LLM's kernels compute the same
it cannot say. Environment: TRTLLM_RELEASE, a release of the contract.

TensorRT-LLM starts MPI on import. LEFT_BY_MPI is some of what Open MPI 4.1.8 then leaves in the
environment that children inherit, where os.environ does not show it.
"""

import os

LEFT_BY_MPI = {
    'OMPI_MCA_ess': 'singleton',
    'ORTE_SCHIZO_DETECTION': 'ORTE',
    'PMIX_NAMESPACE': '1009975297',
    'PMIX_RANK': '0',
}
for _name, _value in LEFT_BY_MPI.items():
    os.putenv(_name, _value)

__version__ = os.environ.get('TRTLLM_RELEASE', '1.2.1')
