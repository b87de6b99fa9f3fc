"""Tests of switches: they choose other kernels in processes of their own, and the environment is reported."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness import RNNConfig, Verdict, as_subject, draw
from harness.checks.agreement import check_agreement
from harness.subjects.environment import environment, heard, line
from harness.subjects.isolated import IsolatedSubject
from harness.subjects.protocol import SubjectUnavailable
from harness.subjects.registry import registered
from harness.subjects.torch_variants import KERNEL_SUBJECTS, KERNEL_SWITCHES, switch_of
from tests.long import few

CONFIG = RNNConfig(17, 9, T=3, N=27, dtype="bfloat16")

CPU = [spec for spec, (_, name) in KERNEL_SUBJECTS.items() if KERNEL_SWITCHES[name].on == "cpu"]
CUDA = [spec for spec in KERNEL_SUBJECTS if spec not in CPU]


@pytest.mark.parametrize("name", few(CPU, lambda spec: KERNEL_SUBJECTS[spec][0] == "RNN" or "mkldnn" in spec))
def test_a_layer_of_torch_under_a_switch_agrees_in_a_process_of_its_own(name: str) -> None:
    with IsolatedSubject(name) as subject:
        case = draw(CONFIG.replace(cell=KERNEL_SUBJECTS[name][0]), "normal")
        assert check_agreement(subject, case).verdict is Verdict.AGREES
        assert (subject.name, subject.devices()) == (name, ("cpu",))
        assert subject.shared is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
@pytest.mark.parametrize("name", CUDA)
def test_without_cuda_its_switches_are_not_here(name: str) -> None:
    with pytest.raises(
        SubjectUnavailable, match=f"{name}: needs CUDA; this torch is built without it|torch finds none"
    ):
        as_subject(name)


@pytest.mark.parametrize(
    ("name", "enabled", "tf32"), [("no-cudnn", False, None), ("tf32", True, True), ("ieee", True, False)]
)
def test_the_flags_of_cudnn_are_set_by_its_switches(name: str, enabled: bool, tf32: bool | None) -> None:
    flags = "torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32"
    script = f"import torch\n{KERNEL_SWITCHES[name].call}\nprint({flags})"

    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()

    assert said[0] == str(enabled)
    assert tf32 is None or said[1] == str(tf32)


def test_a_switch_is_set_where_the_subject_computes_and_nowhere_else() -> None:
    with IsolatedSubject("torch:aten-default") as switched, IsolatedSubject("torch") as plain:
        assert switched.environment()["ATen"] == "DEFAULT"
        assert plain.environment()["ATen"] == environment()["ATen"]


def test_switches_add_up_and_survive_a_copy() -> None:
    with IsolatedSubject("torch:aten-default") as one, one.switched("two-threads") as both:
        copy = pickle.loads(pickle.dumps(both))  # noqa: S301
        facts = copy.environment()
        copy.close()

    assert (facts["ATen"], facts["threads"]) == ("DEFAULT", "2")


KERNELS = """
import torch
from harness import RNNConfig, draw
from harness.subjects.isolated import IsolatedSubject

CASE = draw(RNNConfig(17, 9, T=3, N=27, dtype="bfloat16"), "normal", 0)
if __name__ == "__main__":
    with IsolatedSubject("torch") as plain, plain.switched("no-mkldnn") as switched:
        print(switched.kernels(CASE) == (), bool(plain.kernels(CASE)) == torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""


def test_without_mkldnn_none_of_its_kernels_runs(tmp_path: Path) -> None:
    # In an interpreter of its own: what the fork server of this one has set up by now, its children have as well.
    script = tmp_path / "kernels.py"
    script.write_text(KERNELS, encoding="utf-8")

    said = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout.split()

    assert said == ["True", "True"]  # a CPU of AVX2 alone runs none of its kernels in bfloat16


def test_a_name_in_this_process_is_a_subject_in_another() -> None:
    assert isinstance(as_subject("torch:avx2"), IsolatedSubject)
    assert set(KERNEL_SUBJECTS) <= registered().keys()
    assert switch_of("torch:avx2") == switch_of("torch:lstm:avx2") == "avx2"
    assert switch_of("torch") is switch_of("my.py:avx2") is None


def test_a_switch_that_is_none_is_an_unknown_subject() -> None:
    with pytest.raises(SubjectUnavailable, match="did you mean torch:avx2"):
        as_subject("torch:avx22")


def test_every_switch_says_how_it_is_set() -> None:
    for switch in KERNEL_SWITCHES.values():
        assert switch.words
        assert switch.environ or switch.call


def test_what_onednn_says_is_read_in_both_of_its_forms() -> None:
    spoken = (
        "onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions\n"
        "onednn_verbose,v1,primitive,exec,cpu,matmul,gemm:jit:bf16,undef,src:bf16::blocked:ab::f0,,,27x17:17x9,0.1\n"
        "onednn_verbose,exec,cpu,matmul,jit:avx512,undef,src,,,3x4:4x5,0.2\n"
        "something else, exec\n"
    )

    isa, ran = heard(spoken)

    assert isa == "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions"
    assert ran == ("matmul gemm:jit:bf16 27x17:17x9", "matmul jit:avx512 3x4:4x5")
    assert heard("") == (None, ())


def test_the_line_names_what_chooses_kernels() -> None:
    facts = {
        "torch": "2.13.0",
        "ATen": "AVX2",
        "oneDNN": "3.12",
        "oneDNN ISA": "Intel AVX2",
        "numpy": "2.4",
        "threads": "2",
        "cpu": "a processor",
    }

    assert line(facts) == "torch 2.13.0 on AVX2; oneDNN 3.12 up to Intel AVX2; NumPy 2.4; 2 threads; a processor"


def test_the_environment_of_a_function_without_torch_names_numpy_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def rnn(x, h0, weights, config): raise NotImplementedError('nothing')\n")

    with IsolatedSubject(f"{path}:rnn") as subject:
        facts = subject.environment()
        assert not subject.switchable

    assert "numpy" in facts
    assert "ATen" not in facts
    assert line(facts).startswith("NumPy ")
