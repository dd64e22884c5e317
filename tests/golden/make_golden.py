"""Makes every golden folder: python make_golden.py [folder ...]. README.md says which versions made the files here."""
import os
import sys
import time
import traceback

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is built from configurations; nothing is downloaded
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")  # matrix products whose bits do not depend on alignment
sys.dont_write_bytecode = True

import torch  # noqa: E402
import transformers  # noqa: E402

import cases_other  # noqa: E402
import cases_sigmoid  # noqa: E402
import cases_softmax  # noqa: E402
import cases_transcribed  # noqa: E402
import hf_block  # noqa: E402
import save_pretrained  # noqa: E402


def main(wanted):
    torch.set_num_threads(1)  # one order of summation, so the same bytes again
    torch.backends.mkldnn.enabled = False
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    modules = (cases_softmax, cases_sigmoid, cases_other)
    jobs = [(case.folder, hf_block.make, case) for module in modules for case in module.CASES]
    jobs += [(case.folder, cases_transcribed.make, case) for case in cases_transcribed.CASES]
    jobs.append(("save_pretrained_qwen3_moe", save_pretrained.make, "save_pretrained_qwen3_moe"))
    failures = 0
    for folder, make, case in jobs:
        if wanted and folder not in wanted:
            continue
        start = time.time()
        try:
            print(f"{folder}: {make(case)} bytes, {time.time() - start:.1f} s", flush=True)
        except Exception:
            failures += 1
            print(f"{folder}: FAILED\n{traceback.format_exc()}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(1 if main(set(sys.argv[1:])) else 0)
