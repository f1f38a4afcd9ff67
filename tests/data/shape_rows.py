"""One row of each of the field's shapes, as its data set has it, with what must be read from it."""

from typing import Any, NamedTuple

from made_images import encoded, picture

PNG = {"bytes": encoded(picture(size=(64, 56))), "path": "0.png"}
PATH = "a.png"  # a file beside the rows
PICK = "\nAnswer with the letter of the right choice."


class Case(NamedTuple):
    """data: what is known under this shape. shape: that is recognised. question, answer, images: that are read."""

    data: str
    shape: str
    row: Any
    question: str
    answer: str
    images: int = 0


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def said(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def parts(text: str, image: Any = PNG) -> list[dict[str, Any]]:
    return [{"type": "image", "image": image, "text": None}, {"type": "text", "text": text, "image": None}]


ASK = "What is 1 + 1?"
BOX = "We add and get $\\boxed{2}$."
CASES = [
    Case("OpenRLHF, text", "openrlhf", {"input": ASK, "label": "2"}, ASK, "2"),
    Case(
        "OpenRLHF, messages",
        "openrlhf",
        {"input": [{"role": "system", "content": "Think."}, *user(ASK)], "label": 2.50},
        f"Think.\n\n{ASK}",
        "2.5",
    ),
    Case(
        "OpenRLHF with images, kimi_plugins' prompts.jsonl",
        "openrlhf",
        {"input": user("<image>How many?"), "label": "2", "images": [PATH], "datasource": "made", "difficulty": 0.5},
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "verl (GSM8K, MATH), Guru",
        "verl",
        {
            "data_source": "gsm8k",
            "prompt": user(ASK),
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"split": "train", "index": 0},
        },
        ASK,
        "2",
    ),
    Case(
        "DAPO-Math-17k",
        "verl",
        {
            "data_source": "math_dapo",
            "prompt": user(f"{ASK} The last line is Answer: $Answer."),
            "reward_model": {"ground_truth": "2", "style": "rule-lighteval/MATH_v2"},
        },
        f"{ASK} The last line is Answer: $Answer.",
        "2",
    ),
    Case(
        "Skywork-OR1",
        "verl",
        {"data_source": "sky", "prompt": user(ASK), "reward_model": {"style": "rule", "ground_truth": '["2"]'}},
        ASK,
        "2",
    ),
    Case(
        "verl with images (geometry3k)",
        "verl",
        {
            "data_source": "geo",
            "prompt": user("<image>Find x."),
            "images": [PNG],
            "reward_model": {"style": "rule", "ground_truth": "2"},
        },
        "<image>Find x.",
        "2",
        1,
    ),
    Case(
        "Open-Reasoner-Zero",
        "orz",
        [{"from": "human", "value": ASK}, {"from": "assistant", "ground_truth": {"value": "2"}}],
        ASK,
        "2",
    ),
    Case(
        "Open-Reasoner-Zero, numbered columns",
        "orz",
        {
            "0": {"from": "human", "value": ASK, "ground_truth": None},
            "1": {"from": "assistant", "value": None, "ground_truth": {"value": "2"}},
        },
        ASK,
        "2",
    ),
    Case(
        "prime-rl, SYNTHETIC-1, INTELLECT-2",
        "prime-rl",
        {"problem_id": "p1", "prompt": ASK, "verification_info": '{"ground_truth": "2"}', "task_type": "math"},
        ASK,
        "2",
    ),
    Case("verifiers", "verifiers", {"question": ASK, "answer": "2", "info": "{}", "task": "math"}, ASK, "2"),
    Case(
        "OlympiadBench, one answer in a list",
        "olympiadbench",
        {"id": 1, "question": ASK, "final_answer": ["2"], "is_multiple_answer": False, "context": None},
        ASK,
        "2",
    ),
    Case(
        "OlympiadBench with context and images",
        "olympiadbench",
        {
            "question": "See <image_1>. How far?",
            "final_answer": ["$2$ m"],
            "context": "A ball falls.",
            "image_1": PNG,
            "image_2": None,
        },
        "A ball falls.\nSee <image>. How far?",
        "$2$ m",
        1,
    ),
    Case("MATH", "math", {"problem": ASK, "level": "Level 1", "type": "Algebra", "solution": BOX}, ASK, "2"),
    Case("Minerva", "math", {"problem": ASK, "solution": BOX, "type": "Physics", "idx": 0}, ASK, "2"),
    Case(
        "NuminaMath-CoT",
        "numina-cot",
        {
            "source": "aops",
            "problem": ASK,
            "solution": BOX,
            "messages": [*user(ASK), {"role": "assistant", "content": BOX}],
        },
        ASK,
        "2",
    ),
    Case(
        "NuminaMath-1.5",
        "numina-1.5",
        {"problem": ASK, "solution": BOX, "answer": "2", "problem_type": "Algebra", "source": "aops"},
        ASK,
        "2",
    ),
    Case("DeepScaleR", "deepscaler", {"problem": ASK, "answer": "2", "solution": BOX}, ASK, "2"),
    Case(
        "Big-Math",
        "big-math",
        {"problem": ASK, "answer": "2", "source": "x", "domain": ["Algebra", "Sums"], "llama8b_solve_rate": 0.5},
        ASK,
        "2",
    ),
    Case(
        "OpenR1-Math",
        "openr1-math",
        {"problem": ASK, "solution": BOX, "answer": "2", "generations": ["…"], "messages": user(ASK), "uuid": "u"},
        ASK,
        "2",
    ),
    Case(
        "Omni-MATH",
        "omni-math",
        {"domain": ["Algebra"], "difficulty": 4.5, "problem": ASK, "solution": BOX, "answer": "2", "source": "x"},
        ASK,
        "2",
    ),
    Case(
        "MATH-500",
        "math-500",
        {"problem": ASK, "solution": BOX, "answer": "2", "subject": "Algebra", "level": 1, "unique_id": "t/1"},
        ASK,
        "2",
    ),
    Case("AIME", "aime", {"ID": "2024-I-1", "Problem": ASK, "Solution": BOX, "Answer": 2}, ASK, "2"),
    Case(
        "TheoremQA", "theoremqa", {"Question": ASK, "Answer": "2", "Answer_type": "integer", "Picture": None}, ASK, "2"
    ),
    Case("GSM8K", "gsm8k", {"question": ASK, "answer": "1 + 1 = <<1+1=2>>2\n#### 2"}, ASK, "2"),
    Case(
        "SVAMP",
        "svamp",
        {"ID": "c-1", "Body": "Ann has 1 pear.", "Question": "How many are two Anns'?", "Answer": 2.0},
        "Ann has 1 pear. How many are two Anns'?",
        "2",
    ),
    Case(
        "ASDiv",
        "asdiv",
        {"body": "Ann has 1 pear.", "question": "How many?", "answer": "1 (pears)"},
        "Ann has 1 pear. How many?",
        "1 (pears)",
    ),
    Case(
        "DeepMath and others by usual names",
        "columns",
        {"question": ASK, "final_answer": "2", "difficulty": 4.0, "topic": "Algebra"},
        ASK,
        "2",
    ),
    Case("TRL", "trl", {"prompt": user(ASK), "solution": BOX}, ASK, "2"),
    Case(
        "TRL, prompt parts with images",
        "trl",
        {"prompt": user(parts("How many?")), "answer": "2"},
        "<image>How many?",
        "2",
        1,
    ),
    Case("RLVR (Tülu 3)", "rlvr", {"messages": user(ASK), "ground_truth": "2", "dataset": "gsm8k"}, ASK, "2"),
    Case(
        "ms-swift",
        "ms-swift",
        {"messages": user("<image>How many?"), "images": [PATH], "solution": "2"},
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "ShareGPT, the last message is the answer",
        "ms-swift",
        {"messages": [*user(ASK), {"role": "assistant", "content": "2"}]},
        ASK,
        "2",
    ),
    Case(
        "LLaVA",
        "llava",
        {
            "id": "1",
            "image": PATH,
            "conversations": [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "2"}],
        },
        "<image>\nHow many?",
        "2",
        1,
    ),
    Case(
        "FineVision",
        "finevision",
        {"images": [PNG], "texts": [{"user": "How many?", "assistant": "2"}], "source": "x"},
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "geometry3k",
        "geometry3k",
        {"images": [PNG], "problem": "<image>Find x.", "answer": "2"},
        "<image>Find x.",
        "2",
        1,
    ),
    Case(
        "open-r1 multimodal, CLEVR, GEOQA",
        "open-r1-multimodal",
        {"image": PNG, "problem": "How many?", "solution": "<answer> 2 </answer>"},
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "MathVista, free form",
        "mathvista",
        {
            "pid": "1",
            "question": "How many?",
            "image": "images/1.jpg",
            "decoded_image": PNG,
            "choices": None,
            "answer": "2",
            "metadata": {"source": "x", "task": "count"},
        },
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "MathVista, choices",
        "mathvista",
        {"question": "How many?", "image": "images/1.jpg", "decoded_image": PNG, "choices": ["1", "2"], "answer": "2"},
        f"<image>How many?\nA. 1\nB. 2{PICK}",
        "B",
        1,
    ),
    Case(
        "MATH-Vision",
        "mathvision",
        {
            "id": "1",
            "question": "How many? <image1>",
            "options": ["A", "B"],
            "image": "images/1.jpg",
            "decoded_image": PNG,
            "answer": "A",
            "level": 2,
            "subject": "counting",
        },
        f"How many? <image>\nA. A\nB. B{PICK}",
        "A",
        1,
    ),
    Case(
        "MathVerse",
        "mathverse",
        {
            "sample_index": "1",
            "problem_version": "Text Lite",
            "question": "How many?\nChoices:\nA:1\nB:2",
            "image": PNG,
            "answer": "B",
            "metadata": {"source": "x", "subject": "plane"},
        },
        "<image>How many?\nChoices:\nA:1\nB:2",
        "B",
        1,
    ),
    Case(
        "MMMU",
        "mmmu",
        {
            "id": "1",
            "question": "Compare <image 2> with <image 1>.",
            "options": "['alike', 'not alike']",
            "answer": "B",
            "image_1": PNG,
            "image_2": PNG,
            "image_3": None,
        },
        f"Compare <image> with <image>.\nA. alike\nB. not alike{PICK}",
        "B",
        2,
    ),
    Case(
        "ScienceQA",
        "scienceqa",
        {"image": PNG, "question": "Which?", "choices": ["left", "right"], "answer": 1, "hint": "Look.", "topic": "x"},
        f"<image>Look.\nWhich?\nA. left\nB. right{PICK}",
        "B",
        1,
    ),
    Case(
        "We-Math",
        "we-math",
        {"ID": "1", "question": "Which?", "option": "A. 1; B. 2; C. 3", "answer": "B", "image_path": PNG},
        f"<image>Which?\nA. 1\nB. 2\nC. 3{PICK}",
        "B",
        1,
    ),
    Case(
        "MMBench",
        "mmbench",
        {
            "index": 1,
            "question": "Which?",
            "hint": None,
            "A": "left",
            "B": "right",
            "C": None,
            "answer": "A",
            "image": PNG,
        },
        f"<image>Which?\nA. left\nB. right{PICK}",
        "A",
        1,
    ),
    Case(
        "AI2D",
        "ai2d",
        {"question": "Which?", "options": ["x", "y"], "answer": "1", "image": PNG},
        f"<image>Which?\nA. x\nB. y{PICK}",
        "B",
        1,
    ),
    Case(
        "A-OKVQA",
        "a-okvqa",
        {
            "question": "Which?",
            "choices": ["x", "y"],
            "correct_choice_idx": 1,
            "direct_answers": "['y']",
            "image": PNG,
        },
        f"<image>Which?\nA. x\nB. y{PICK}",
        "B",
        1,
    ),
    Case("ChartQA", "chartqa", {"image": PNG, "query": "How many?", "label": ["2"]}, "<image>How many?", "2", 1),
    Case(
        "DocVQA, one answer",
        "docvqa",
        {"questionId": "1", "question": "How many?", "answers": ["2", "2"], "image": PNG},
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "MMK12",
        "mmk12",
        {"id": "1", "question": "<image>How many?", "answer": "2", "subject": "math", "image": PNG},
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "ViRL39K",
        "virl39k",
        {"question": "<image>How many?", "answer": "\\boxed{2}", "qid": "q", "image": [PATH], "category": "count"},
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "MM-Eureka",
        "mm-eureka",
        {
            "id": "1",
            "conversations": '[{"role": "user", "content": "<image>How many?"}]',
            "answer": "2",
            "image_urls": [f"file://{PATH}"],
        },
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "lmm-r1, messages as JSON text",
        "lmm-r1",
        {
            "message": '[{"role": "user", "content": [{"type": "image", "image": "a.png"}, '
            '{"type": "text", "text": "How many?"}]}]',
            "answer": "2",
        },
        "<image>How many?",
        "2",
        1,
    ),
    Case(
        "MMLU",
        "mmlu",
        {"question": "Which?", "subject": "x", "choices": ["1", "2", "3", "4"], "answer": 1},
        f"Which?\nA. 1\nB. 2\nC. 3\nD. 4{PICK}",
        "B",
    ),
    Case(
        "ARC, OpenBookQA",
        "arc",
        {"id": "1", "question": "Which?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
        f"Which?\nA. x\nB. y{PICK}",
        "B",
    ),
    Case(
        "AQuA",
        "aqua",
        {"question": "Which?", "options": ["A)1", "B)2"], "rationale": "…", "correct": "B"},
        f"Which?\nA. 1\nB. 2{PICK}",
        "B",
    ),
    Case(
        "MedQA",
        "medqa",
        {"question": "Which?", "options": {"A": "x", "B": "y"}, "answer": "y", "answer_idx": "B"},
        f"Which?\nA. x\nB. y{PICK}",
        "B",
    ),
    Case(
        "GPQA",
        "gpqa",
        {"Question": "Which?", "Correct Answer": "b", "Incorrect Answer 1": "c", "Incorrect Answer 2": "a"},
        f"Which?\nA. a\nB. b\nC. c{PICK}",
        "B",
    ),
    Case(
        "SciQ",
        "sciq",
        {"question": "Which?", "correct_answer": "b", "distractor1": "c", "distractor2": "a", "distractor3": "d"},
        f"Which?\nA. a\nB. b\nC. c\nD. d{PICK}",
        "B",
    ),
    Case(
        "TabMWP",
        "tabmwp",
        {
            "question": "How many?",
            "choices": None,
            "answer": "2",
            "table_title": "Pears",
            "table": "a | 2",
            "grade": 3,
        },
        "Pears\na | 2\nHow many?",
        "2",
    ),
    Case(
        "MathQA",
        "mathqa",
        {"Problem": "Which?", "Rationale": "…", "options": "a ) 1 , b ) 2 , c ) 3", "correct": "b", "category": "x"},
        f"Which?\nA. 1\nB. 2\nC. 3{PICK}",
        "B",
    ),
    Case("Alpaca", "alpaca", {"instruction": "Add.", "input": "1 + 1", "output": "2"}, "Add.\n1 + 1", "2"),
    Case("MetaMathQA", "columns", {"query": ASK, "response": "We add.\n#### 2\nThe answer is: 2"}, ASK, "2"),
    Case("TRL, prompt and completion", "columns", {"prompt": user(ASK), "completion": [said(BOX)]}, ASK, "2"),
    Case(
        "OpenThoughts, metadata",
        "columns",
        {"problem": ASK, "deepseek_solution": "\\boxed{3}", "ground_truth_solution": BOX, "domain": "math"},
        ASK,
        "2",
    ),
    Case(
        "SYNTHETIC-1, Python's form",
        "prime-rl",
        {"prompt": ASK, "verification_info": "{'ground_truth': '2'}", "task_type": "verifiable_math"},
        ASK,
        "2",
    ),
]
